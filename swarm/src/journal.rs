//! The journal of one torrent: which pieces a start after a crash may trust.
//!
//! A file of records, appended only. `Written` says that a piece was verified and handed to the kernel; `Durable`, written
//! after an fdatasync of the data returned, names the pieces that it covered. A start trusts durable pieces and re-hashes
//! those that were only written. A torn tail ends the replay: what it would
//! have said is re-hashed or fetched again, never believed.
//!
//! Layout: a header of [`HEADER_LEN`] bytes, then records of `kind u8, length u32, payload, crc32`, all big-endian. The
//! CRC is over kind, length and payload and guards against torn writes, not against forgery.

use std::collections::BTreeSet;

use crate::bitfield::Bitfield;

/// Magic and version of the format.
const MAGIC: &[u8; 8] = b"samaraJ1";
/// Magic, inner id, piece count, CRC.
pub const HEADER_LEN: usize = 8 + 32 + 4 + 4;
/// Kind, length and CRC around a payload.
const FRAME_LEN: usize = 1 + 4 + 4;

const KIND_SNAPSHOT: u8 = 1;
const KIND_WRITTEN: u8 = 2;
const KIND_DURABLE: u8 = 3;
const KIND_WITHDRAWN: u8 = 4;

/// What can be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Exactly these pieces are durable: the first record of a compacted journal.
    Snapshot(Bitfield),
    /// These pieces are verified and written, not yet durable.
    Written(Vec<u32>),
    /// An fdatasync that covers these pieces has returned.
    Durable(Vec<u32>),
    /// This piece is not here after all.
    Withdrawn(u32),
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Pieces to trust.
    pub durable: Bitfield,
    /// Pieces written and not known to be durable: to be hashed before they count.
    pub unproven: BTreeSet<u32>,
    /// Bytes of the file that were read as whole records; what follows is a torn tail.
    pub valid_len: usize,
}

/// The file is no journal of this torrent; it is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Too short, wrong magic or a damaged header.
    #[error("not a journal, or its header is damaged")]
    Header,
    /// It belongs to another torrent.
    #[error("the journal belongs to another torrent")]
    OtherTorrent,
}

/// The header of the journal of the torrent with this inner id and piece count.
pub fn header(inner: &[u8; 32], pieces: u32) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..40].copy_from_slice(inner);
    bytes[40..44].copy_from_slice(&pieces.to_be_bytes());
    let crc = crc32(&bytes[..44]);
    bytes[44..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

impl Record {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (kind, payload) = match self {
            Self::Snapshot(pieces) => (KIND_SNAPSHOT, pieces.to_wire()),
            Self::Written(pieces) => (KIND_WRITTEN, bytes(pieces)),
            Self::Durable(pieces) => (KIND_DURABLE, bytes(pieces)),
            Self::Withdrawn(piece) => (KIND_WITHDRAWN, piece.to_be_bytes().to_vec()),
        };
        out.push(kind);
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(&payload);
        let crc = crc32(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// Reads the record at the start of `bytes` and its length; `None` if it is torn or makes no sense.
    fn decode(bytes: &[u8], pieces: u32) -> Option<(Self, usize)> {
        let (kind, rest) = bytes.split_first()?;
        let len = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let payload = rest.get(4..4usize.checked_add(len)?)?;
        let crc = bytes.get(5 + len..FRAME_LEN + len)?;
        if crc != crc32(&bytes[..5 + len]).to_be_bytes() {
            return None;
        }
        let record = match *kind {
            KIND_SNAPSHOT => Self::Snapshot(Bitfield::from_wire(payload, pieces).ok()?),
            KIND_WRITTEN => Self::Written(words(payload, pieces)?),
            KIND_DURABLE => Self::Durable(words(payload, pieces)?),
            KIND_WITHDRAWN if len == 4 => Self::Withdrawn(*words(payload, pieces)?.first()?),
            _ => return None,
        };
        Some((record, FRAME_LEN + len))
    }
}

fn bytes(pieces: &[u32]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| piece.to_be_bytes()).collect()
}

/// Piece numbers, all below `pieces`.
fn words(payload: &[u8], pieces: u32) -> Option<Vec<u32>> {
    let (words, rest) = payload.as_chunks::<4>();
    let numbers: Vec<u32> = words.iter().map(|w| u32::from_be_bytes(*w)).collect();
    (rest.is_empty() && numbers.iter().all(|n| *n < pieces)).then_some(numbers)
}

/// Reads a journal up to its first torn record.
pub fn replay(bytes: &[u8], inner: &[u8; 32], pieces: u32) -> Result<Replay, JournalError> {
    let found = bytes.first_chunk::<HEADER_LEN>().ok_or(JournalError::Header)?;
    if found[..8] != MAGIC[..] || found[44..] != crc32(&found[..44]).to_be_bytes() {
        return Err(JournalError::Header);
    }
    if *found != header(inner, pieces) {
        return Err(JournalError::OtherTorrent);
    }
    let mut replay =
        Replay { durable: Bitfield::new(pieces), unproven: BTreeSet::new(), valid_len: HEADER_LEN };
    while let Some((record, len)) = Record::decode(&bytes[replay.valid_len..], pieces) {
        replay.apply(record);
        replay.valid_len += len;
    }
    Ok(replay)
}

impl Replay {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Snapshot(pieces) => {
                self.durable = pieces;
                self.unproven.clear();
            }
            Record::Written(pieces) => self.unproven.extend(pieces),
            Record::Durable(pieces) => {
                for piece in pieces {
                    self.unproven.remove(&piece);
                    self.durable.insert(piece);
                }
            }
            Record::Withdrawn(piece) => {
                self.durable.remove(piece);
                self.unproven.remove(&piece);
            }
        }
    }
}

/// CRC-32 (IEEE 802.3, reflected) with a table made at compile time.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INNER: [u8; 32] = [9; 32];
    const PIECES: u32 = 70;

    fn write(records: &[Record]) -> Vec<u8> {
        let mut bytes = header(&INNER, PIECES).to_vec();
        for record in records {
            record.encode(&mut bytes);
        }
        bytes
    }

    #[test]
    fn crc_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn only_an_fdatasync_makes_durable() {
        let bytes = write(&[
            Record::Written(vec![3, 4]),
            Record::Durable(vec![3, 4]),
            Record::Written(vec![5]),
            Record::Withdrawn(4),
        ]);
        let replay = replay(&bytes, &INNER, PIECES).unwrap();
        assert_eq!(replay.durable.iter().collect::<Vec<_>>(), [3]);
        assert_eq!(replay.unproven.into_iter().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn journals_of_others_are_refused() {
        let bytes = write(&[]);
        assert_eq!(replay(&bytes, &[8; 32], PIECES), Err(JournalError::OtherTorrent));
        assert_eq!(replay(&bytes, &INNER, PIECES + 1), Err(JournalError::OtherTorrent));
        assert_eq!(replay(&bytes[..20], &INNER, PIECES), Err(JournalError::Header));
        assert_eq!(replay(&[0; 100], &INNER, PIECES), Err(JournalError::Header));
    }

    fn any_record() -> impl Strategy<Value = Record> {
        prop_oneof![
            proptest::collection::vec(0..PIECES, 0..6).prop_map(Record::Written),
            proptest::collection::vec(0..PIECES, 0..6).prop_map(Record::Durable),
            (0..PIECES).prop_map(Record::Withdrawn),
            proptest::collection::btree_set(0..PIECES, 0..6).prop_map(|set| {
                let mut pieces = Bitfield::new(PIECES);
                for piece in set {
                    pieces.insert(piece);
                }
                Record::Snapshot(pieces)
            }),
        ]
    }

    proptest! {
        /// Cut anywhere, the journal says what its whole records say, and nothing else.
        #[test]
        fn a_cut_at_any_byte_loses_only_the_torn_record(records in proptest::collection::vec(any_record(), 0..12)) {
            let whole = write(&records);
            let mut ends = vec![HEADER_LEN];
            for record in &records {
                let mut one = Vec::new();
                record.encode(&mut one);
                ends.push(ends[ends.len() - 1] + one.len());
            }
            for cut in HEADER_LEN..=whole.len() {
                let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
                let expected = replay(&write(&records[..kept]), &INNER, PIECES).unwrap();
                prop_assert_eq!(replay(&whole[..cut], &INNER, PIECES).unwrap(), expected);
            }
        }

        /// A damaged byte never makes a piece durable that was not.
        #[test]
        fn a_flipped_bit_adds_nothing(records in proptest::collection::vec(any_record(), 1..8), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = write(&records);
            let at = HEADER_LEN + at.index(bytes.len() - HEADER_LEN);
            bytes[at] ^= 1 << bit;
            let damaged = replay(&bytes, &INNER, PIECES).unwrap();
            prop_assert!(damaged.valid_len <= at);
        }

        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = write(&[]);
            bytes.extend_from_slice(&tail);
            prop_assert!(replay(&bytes, &INNER, PIECES).is_ok());
        }
    }
}
