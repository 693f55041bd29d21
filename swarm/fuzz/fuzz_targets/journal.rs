//! A journal of any records, whole, torn or overwritten, says what its whole records say: the same as a journal of that alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm::journal::{self, Record, Replay};

const INNER: [u8; 32] = [9; 32];
const PIECES: u32 = 70;

// The first bytes say where it is torn and what is overwritten; the rest are records without their sums.
fuzz_target!(|bytes: &[u8]| {
    drop(journal::replay(bytes, &INNER, PIECES));
    let Some((&[cut_high, cut_low, at_high, at_low, with], rest)) = bytes.split_first_chunk::<5>() else {
        return;
    };
    let (whole, ends) = written(rest);
    let cut = usize::from(u16::from_be_bytes([cut_high, cut_low])).min(whole.len());
    let torn = replay(&whole[..cut.max(journal::HEADER_LEN)]);
    assert!(ends.contains(&torn.valid_len));
    is_what_it_says(&torn);

    let mut damaged = whole.clone();
    let at = usize::from(u16::from_be_bytes([at_high, at_low]));
    if at >= journal::HEADER_LEN && at < whole.len() && with != 0 {
        damaged[at] ^= with;
        assert!(replay(&damaged).valid_len <= at);
    }
});

/// A journal of the records in `bytes`, each a kind, a length and so much payload; and where each ends.
fn written(mut bytes: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut out = journal::header(&INNER, PIECES).to_vec();
    let mut ends = vec![out.len()];
    while let Some((&[kind, len], rest)) = bytes.split_first_chunk::<2>() {
        let payload = &rest[..rest.len().min(len.into())];
        let start = out.len();
        out.push(kind);
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
        let sum = crc32(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
        ends.push(out.len());
        bytes = &rest[payload.len()..];
    }
    (out, ends)
}

fn replay(bytes: &[u8]) -> Replay {
    journal::replay(bytes, &INNER, PIECES).expect("the header is whole")
}

/// Written anew, as a start does, it says the same.
fn is_what_it_says(said: &Replay) {
    assert!(said.unproven.iter().all(|piece| *piece < PIECES));
    let mut bytes = journal::header(&INNER, PIECES).to_vec();
    Record::Snapshot(said.durable.clone()).encode(&mut bytes);
    Record::Written(said.unproven.iter().copied().collect()).encode(&mut bytes);
    let again = replay(&bytes);
    assert_eq!((&again.durable, &again.unproven), (&said.durable, &said.unproven));
    assert_eq!(again.valid_len, bytes.len());
}

/// The engine's own is not public.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}
