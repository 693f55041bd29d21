use super::*;
use proptest::prelude::*;

fn any_block() -> impl Strategy<Value = Block> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, len)| Block { piece, begin, len })
}

fn any_hash_request() -> impl Strategy<Value = HashRequest> {
    (any::<[u8; 32]>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>())
        .prop_map(|(root, base, index, length, proofs)| HashRequest { root, base, index, length, proofs })
}

fn round_trip(message: &Message<'_>) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    for cut in 0..bytes.len() {
        match decode(&bytes[..cut]) {
            Ok(Decoded::Need(n)) => prop_assert!(n > cut && n <= bytes.len()),
            other => prop_assert!(false, "cut at {cut}: {other:?}"),
        }
    }
    let end = bytes.len();
    bytes.extend_from_slice(b"more");
    prop_assert_eq!(decode(&bytes).unwrap(), Decoded::Message(*message, end));
    Ok(())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        piece: u32,
        begin: u32,
        block in any_block(),
        request in any_hash_request(),
        data in proptest::collection::vec(any::<u8>(), 1..200),
        id: u8,
        port: u16,
    ) {
        let hashes = vec![7; data.len() / 32 * 32];
        for message in [
            Message::KeepAlive, Message::Choke, Message::Unchoke, Message::Interested, Message::NotInterested,
            Message::Have(piece), Message::Bitfield(&data), Message::Request(block),
            Message::Piece { piece, begin, data: &data }, Message::Cancel(block), Message::Port(port),
            Message::Suggest(piece), Message::HaveAll, Message::HaveNone, Message::Reject(block),
            Message::AllowedFast(piece), Message::Extended { id, payload: &data },
            Message::HashRequest(request), Message::Hashes { request, hashes: &hashes },
            Message::HashReject(request),
        ] {
            round_trip(&message)?;
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        match decode(&bytes) {
            Ok(Decoded::Message(_, used) | Decoded::Block(_, used, _)) => prop_assert!(used <= bytes.len()),
            Ok(Decoded::Need(n)) => prop_assert!(n > bytes.len() && n <= MAX_FRAME + 4),
            Err(_) => {}
        }
    }

    #[test]
    fn frames_of_every_id_never_panic(id: u8, body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = (body.len() as u32 + 1).to_be_bytes().to_vec();
        bytes.push(id);
        bytes.extend_from_slice(&body);
        // An accepted frame is taken whole; a refused one is an error, never a wait for more.
        if let Ok(decoded) = decode(&bytes) {
            prop_assert!(matches!(decoded, Decoded::Message(_, used) if used == bytes.len()));
        }
    }
}

#[test]
fn t021_oversized_frames_are_refused_from_the_prefix_alone() {
    for len in [u32::MAX, 2 * 1024 * 1024 + 1] {
        assert!(matches!(decode(&len.to_be_bytes()), Err(WireError::TooLong { .. })));
    }
    let mut piece = (9 + MAX_RUN + 1).to_be_bytes().to_vec();
    piece.push(7);
    assert!(matches!(decode(&piece), Err(WireError::TooLong { id: 7, .. })));
}

#[test]
fn wrong_lengths_are_refused_before_the_body() {
    for (id, len) in [(0, 2), (4, 4), (6, 12), (8, 14), (7, 8), (9, 2), (14, 2), (20, 1), (21, 48), (22, 50)]
    {
        let mut bytes = u32::to_be_bytes(len).to_vec();
        bytes.push(id);
        assert_eq!(decode(&bytes), Err(WireError::WrongLength { id, len }), "message {id}");
    }
}

#[test]
fn piece_header_is_what_encode_writes() {
    let mut bytes = Vec::new();
    Message::Piece { piece: 3, begin: 16384, data: b"abc" }.encode(&mut bytes);
    assert_eq!(bytes[..13], piece_header(3, 16384, 3));
}

#[test]
fn a_run_is_its_blocks_and_what_is_left_is_a_run_again() {
    let data: Vec<u8> = (0..BLOCK + 5).map(|at| (at % 251) as u8).collect();
    let mut bytes = Vec::new();
    Message::Piece { piece: 3, begin: BLOCK, data: &data }.encode(&mut bytes);
    let (first, second) = data.split_at(BLOCK as usize);
    let enough = PIECE_HEADER + BLOCK as usize;
    assert_eq!(
        decode(&bytes[..enough - 1]),
        Ok(Decoded::Need(enough)),
        "no more than the block is waited for"
    );
    let Ok(Decoded::Block(block, used, rest)) = decode(&bytes[..enough]) else { panic!("no block") };
    assert_eq!(block, Message::Piece { piece: 3, begin: BLOCK, data: first });
    bytes[used..used + PIECE_HEADER].copy_from_slice(&rest);
    let last = Message::Piece { piece: 3, begin: 2 * BLOCK, data: second };
    assert_eq!(decode(&bytes[used..]), Ok(Decoded::Message(last, PIECE_HEADER + 5)));
}
