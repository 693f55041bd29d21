//! Extension messages about pieces: `lt_donthave` (BEP 54), and `sm_coming`, `sm_hashes`, `sm_bad` and `sm_run`, of our own.

/// The id under which we take `lt_donthave`: the sender has this piece no more.
pub const LT_DONTHAVE: u8 = 2;
/// The id under which we take `sm_coming`: the sender is fetching this piece, and passes on what it has of it.
pub const SM_COMING: u8 = 3;

/// The id under which we take `sm_hashes`: signed hashes of pieces of a torrent that grows ([`torrent::ingest::Batch`]).
pub const SM_HASHES: u8 = 4;

/// The id under which we take `sm_bad`: this piece, as we have sent it, is not what it has to be.
pub const SM_BAD: u8 = 5;

/// The id that says that we take runs: a PIECE message may answer several requests, for blocks that lie one behind the other, of
/// [`MAX_RUN`](super::MAX_RUN) bytes together at most, all but the last of 16 KiB. No message has it.
pub const SM_RUN: u8 = 6;

/// Under which ids a peer takes such messages, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notices {
    /// `m.lt_donthave`.
    pub dont_have: Option<u8>,
    /// `m.sm_coming`.
    pub coming: Option<u8>,
    /// `m.sm_hashes`.
    pub hashes: Option<u8>,
    /// `m.sm_bad`.
    pub bad: Option<u8>,
    /// `m.sm_run`: it takes runs of blocks.
    pub run: Option<u8>,
}

impl Notices {
    /// Ours.
    pub fn own() -> Self {
        Self {
            dont_have: Some(LT_DONTHAVE),
            coming: Some(SM_COMING),
            hashes: Some(SM_HASHES),
            bad: Some(SM_BAD),
            run: Some(SM_RUN),
        }
    }
}

/// The payload of a message about one piece: a piece number of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceNotice(pub u32);

impl PieceNotice {
    /// The payload.
    pub fn encode(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Reads a payload; `None` if it has a wrong length.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        Some(Self(u32::from_be_bytes(payload.try_into().ok()?)))
    }
}
