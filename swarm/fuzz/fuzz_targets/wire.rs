//! What decodes encodes to the same bytes, no part of it decodes to something else, and how much is missing is known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm::wire::{BLOCK, Decoded, HANDSHAKE_LEN, Handshake, MAX_FRAME, Message, decode};

fuzz_target!(|bytes: &[u8]| {
    handshake(bytes);
    let (mut bytes, mut at) = (bytes.to_vec(), 0);
    loop {
        let rest = &bytes[at..];
        match decode(rest) {
            Ok(Decoded::Message(message, used)) => {
                one(message, &rest[..used]);
                at += used;
            }
            // A block less of the same run.
            Ok(Decoded::Block(message, used, header)) => {
                let Message::Piece { data, .. } = message else { panic!("{message:?} has blocks") };
                assert_eq!((data.len(), used), (BLOCK as usize, BLOCK as usize));
                at += used;
                bytes[at..at + header.len()].copy_from_slice(&header);
            }
            Ok(Decoded::Need(bytes)) => {
                assert!(bytes > rest.len() && bytes <= 4 + MAX_FRAME, "{bytes} for {}", rest.len());
                return;
            }
            // What is refused stays refused, however much follows.
            Err(error) => {
                assert_eq!(decode(&rest[..rest.len().min(5)]), Err(error));
                return;
            }
        }
    }
});

fn one(message: Message<'_>, bytes: &[u8]) {
    for end in 0..bytes.len().min(64) {
        assert!(
            matches!(decode(&bytes[..end]), Ok(Decoded::Need(need)) if need > end && need <= bytes.len())
        );
    }
    // A message that we do not know is passed over, with its body.
    if !matches!(message, Message::Unknown(_)) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(again, bytes);
    }
    if let Message::HashRequest(request) = message
        && request.is_sane()
    {
        let end = u64::from(request.index) + u64::from(request.length);
        assert!(request.length >= 2 && end <= 1 << 32, "{request:?}");
    }
}

/// Unknown capabilities are forgotten; all else is kept.
fn handshake(bytes: &[u8]) {
    let Some(first) = bytes.first_chunk::<HANDSHAKE_LEN>() else { return };
    if let Ok(heard) = Handshake::decode(first) {
        let again = heard.encode();
        assert_eq!((&again[..20], &again[28..]), (&first[..20], &first[28..]));
        assert_eq!(Handshake::decode(&again), Ok(heard));
    }
}
