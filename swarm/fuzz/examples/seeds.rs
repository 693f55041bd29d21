//! Writes the seeds again: `cargo run --example seeds` in this folder.

use std::io::Result;
use std::path::Path;

use swarm::wire::metadata::Metadata;
use swarm::wire::{
    BLOCK, Block, Capabilities, ExtensionHandshake, Handshake, HashRequest, Message, PeerId, UT_METADATA,
};
use torrent::WireId;

const REQUEST: HashRequest = HashRequest { root: [3; 32], base: 2, index: 32, length: 32, proofs: 4 };
const LAST: Block = Block { piece: 2, begin: 0, len: 100 };
/// A piece of the torrent that conversations are about.
const GOOD: Message<'_> = Message::Piece { piece: 2, begin: 0, data: &[7; 100] };
const BAD: Message<'_> = Message::Piece { piece: 2, begin: 0, data: &[8; 100] };

fn main() -> Result<()> {
    wire()?;
    extension()?;
    journal()?;
    hashes()?;
    conversation()
}

/// The extension handshake of one of ours.
fn said() -> Vec<u8> {
    let said = ExtensionHandshake {
        client: Some("Samara/0.1.0".into()),
        reqq: Some(500),
        port: Some(6881),
        ut_metadata: Some(1),
        metadata_size: Some(20_000),
        ..ExtensionHandshake::default()
    };
    said.encode()
}

fn wire() -> Result<()> {
    let said = said();
    let control =
        [Message::KeepAlive, Message::Unchoke, Message::Have(1), Message::Suggest(2), Message::Port(9)];
    let bitfield = Message::Bitfield(&[0xa0]);
    let pieces = [bitfield, Message::Request(LAST), GOOD, Message::Cancel(LAST), Message::Reject(LAST)];
    let answer = Message::Hashes { request: REQUEST, hashes: &[5; 64] };
    let hashes = [Message::HashRequest(REQUEST), answer, Message::HashReject(REQUEST)];
    let extended = [Message::Extended { id: 0, payload: &said }];
    for (name, messages) in
        [("control", &control[..]), ("pieces", &pieces), ("hashes", &hashes), ("extended", &extended)]
    {
        write("wire", name, &encode(messages))?;
    }
    let run = Message::Piece { piece: 2, begin: 0, data: &[7; 2 * BLOCK as usize + 100] };
    write("wire", "run", &encode(&[run, Message::Have(1)]))?;
    let mut too_long = encode(&[Message::Unknown(99)]);
    too_long[0] = 0xff;
    write("wire", "too_long", &too_long)?;
    let capabilities = Capabilities { fast: true, extended: true, v2: true };
    let handshake =
        Handshake { capabilities, id: WireId([7; 20]), peer_id: PeerId(*b"-SM0001-0123456789ab") };
    write("wire", "handshake", &handshake.encode())
}

fn extension() -> Result<()> {
    write("extension", "own", &said())?;
    write("extension", "foreign", b"d1:md11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei9000e1:pi6881e4:reqqi2000e1:v17:qBittorrent/4.6.0e")?;
    write("extension", "data", &Metadata::Data { part: 1, total: 20_000, data: b"the last part" }.encode())?;
    write("extension", "request", &Metadata::Request(1).encode())?;
    write("extension", "deep", &[b'l'; 100])?;
    write("extension", "not_a_dict", b"i3e")
}

/// Torn behind the first three records, a byte of the second overwritten; snapshot, written, durable, withdrawn.
fn journal() -> Result<()> {
    let snapshot = [&[1, 9][..], &[0xf0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let written = [2, 8, 0, 0, 0, 9, 0, 0, 0, 10];
    let durable = [3, 4, 0, 0, 0, 9];
    let withdrawn = [4, 4, 0, 0, 0, 1];
    let records = [&snapshot[..], &written, &durable, &withdrawn].concat();
    write("journal", "torn", &[&[0, 100, 0, 75, 1][..], &records].concat())?;
    write("journal", "whole", &[&[0xff, 0xff, 0, 0, 0][..], &records].concat())?;
    write("journal", "piece_too_high", &[&[0xff, 0xff, 0, 0, 0, 2, 4][..], &[0, 0, 0, 70]].concat())
}

/// File, layer, proofs, log2 of the length, index.
fn hashes() -> Result<()> {
    write("hashes", "piece_layer", &[5, 1, 5, 2, 0, 4])?;
    write("hashes", "leaves", &[5, 0, 6, 1, 0, 66])?;
    write("hashes", "small_file", &[1, 0, 0, 1, 0, 0])?;
    write("hashes", "behind_the_end", &[4, 0, 2, 1, 0, 6])
}

fn conversation() -> Result<()> {
    let said = said();
    let extended = Message::Extended { id: 0, payload: &said };
    let leech = [Message::HaveAll, Message::Unchoke, GOOD];
    let lie = [Message::HaveAll, Message::Unchoke, BAD, GOOD];
    let seed =
        [extended, Message::HaveNone, Message::Interested, Message::Request(LAST), Message::Cancel(LAST)];
    let part = Metadata::Request(1).encode();
    let link = [extended, Message::Extended { id: UT_METADATA, payload: &part }];
    let hashes = [Message::HashRequest(REQUEST), Message::HashRequest(HashRequest { length: 3, ..REQUEST })];
    let choke = [Message::HaveAll, Message::Unchoke, Message::Choke, Message::Unchoke, Message::Reject(LAST)];
    for (name, shape, messages) in [
        ("leech", 12, &leech[..]),
        ("leech_without_fast", 8, &leech),
        ("lie", 12, &lie),
        ("seed", 14, &seed),
        ("hashes", 14, &hashes),
        ("link", 12, &link),
        ("choke", 5, &choke),
        ("choke_without_fast", 1, &choke),
    ] {
        let whole = messages.iter().map(|message| encode(std::slice::from_ref(message)));
        write("conversation", name, &reads(shape, whole))?;
        let split = encode(messages).chunks(17).map(<[u8]>::to_vec).collect::<Vec<_>>();
        write("conversation", &format!("{name}_split"), &reads(shape, split))?;
    }
    Ok(())
}

/// What each read of the socket brings, 3^2 ms after the one before.
fn reads(shape: u8, parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![shape];
    for part in parts {
        bytes.extend([part.len() as u8, 3]);
        bytes.extend(part);
    }
    bytes
}

fn encode(messages: &[Message<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut bytes));
    bytes
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}
