//! From a magnet link to a torrent: `info` from peers (BEP 9), then its piece layers by hash requests (BEP 52).
//!
//! Pure. A [`Lookup`] is what all connections have in common; an [`Inquiry`] is what one of them says. Everything that comes is proved by
//! the infohashes of the link before it counts: `info` by its hash, layers by the roots in `info`.

mod inquiry;
mod layers;

use std::collections::BTreeMap;
use std::time::Duration;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use torrent::{Info, InfoHashV1, InfoHashV2, Limits, Magnet, Metainfo, MetainfoError, WireId};

pub use inquiry::{End, Inquiry};
use layers::Layers;

use crate::wire::HashRequest;

/// Peers that `info` is fetched from at a time. Each is asked for all of it, so that a liar is known by himself; each may make us
/// keep [`crate::wire::metadata::MAX_METADATA`] bytes.
const FETCHERS: usize = 3;
/// `info` may take so long, and its size at [`FETCH_RATE`]; who is slower makes room for another.
const FETCH_TIME: Duration = Duration::from_secs(20);
/// Bytes per second.
const FETCH_RATE: u32 = 64 * 1024;
/// The layers of a hybrid are done without if none has come for so long: v1 peers have none to give.
const LAYER_PATIENCE: Duration = Duration::from_secs(30);

/// Names a connection of a lookup.
pub type InquiryId = u64;

/// Why a lookup ends without a torrent although `info` came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It is what the link means, and is refused all the same: no other peer has a better one.
    #[error("the torrent behind the link is refused: {0}")]
    Refused(#[from] MetainfoError),
    /// It was stopped before.
    #[error("the search for the torrent was stopped")]
    Ended,
}

/// The infohashes that prove what comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of v1 and hybrid torrents.
    pub v1: Option<InfoHashV1>,
    /// Of v2 and hybrid torrents.
    pub v2: Option<InfoHashV2>,
}

impl From<&Magnet> for Wanted {
    fn from(magnet: &Magnet) -> Self {
        Self { v1: magnet.v1, v2: magnet.v2 }
    }
}

impl Wanted {
    /// Whether these bytes are meant.
    pub fn is_meant(&self, info: &[u8]) -> bool {
        let v1 = self.v1.is_none_or(|wanted| Sha1::digest(info)[..] == wanted.0);
        let v2 = self.v2.is_none_or(|wanted| Sha256::digest(info)[..] == wanted.0);
        v1 && v2 && (self.v1.is_some() || self.v2.is_some())
    }
}

/// How far a lookup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// `info` is being looked for.
    Info,
    /// So many hashes of piece layers have come.
    Layers {
        /// These.
        found: u64,
        /// Of so many.
        total: u64,
    },
    /// There is an outcome.
    Done,
}

#[derive(Debug)]
enum Stage {
    Info,
    Layers { info: Box<Info>, layers: Layers, last_came: Duration },
    Done(Option<Box<Result<Metainfo, LookupError>>>),
}

/// What the connections of one lookup have in common.
#[derive(Debug)]
pub struct Lookup {
    wanted: Wanted,
    limits: Limits,
    stage: Stage,
    /// Until when each may take.
    fetching: BTreeMap<InquiryId, Duration>,
}

impl Lookup {
    /// Of a torrent of which nothing but hashes is known.
    pub fn new(wanted: Wanted, limits: Limits) -> Self {
        Self { wanted, limits, stage: Stage::Info, fetching: BTreeMap::new() }
    }

    /// The ids under which peers are to be asked now, the preferred one first. Layers are asked for under the v2 id only: who is
    /// asked for hashes under a v1 id ends the connection.
    pub fn wire_ids(&self) -> Vec<WireId> {
        match self.stage {
            Stage::Layers { .. } => self.v2_id().into_iter().collect(),
            _ => self.v2_id().into_iter().chain(self.wanted.v1.map(WireId::from)).collect(),
        }
    }

    /// The id of the v2 side, if there is known to be one.
    pub fn v2_id(&self) -> Option<WireId> {
        self.wanted.v2.map(WireId::from)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        match &self.stage {
            Stage::Info => Progress::Info,
            Stage::Layers { layers, .. } => Progress::Layers { found: layers.found(), total: layers.total() },
            Stage::Done(_) => Progress::Done,
        }
    }

    /// The outcome, once.
    pub fn take_outcome(&mut self) -> Option<Result<Metainfo, LookupError>> {
        match &mut self.stage {
            Stage::Done(outcome) => outcome.take().map(|outcome| *outcome),
            _ => None,
        }
    }

    /// Time has passed: at least once a second.
    pub fn tick(&mut self, now: Duration) {
        let Stage::Layers { info, last_came, .. } = &self.stage else { return };
        if now.saturating_sub(*last_came) > LAYER_PATIENCE
            && let Some(metainfo) = info.as_ref().clone().without_layers()
        {
            self.stage = Stage::Done(Some(Box::new(Ok(metainfo))));
        }
    }

    /// A connection is gone, or fetches nothing more.
    pub fn gone(&mut self, id: InquiryId) {
        self.fetching.remove(&id);
        if let Stage::Layers { layers, .. } = &mut self.stage {
            layers.gone(id);
        }
    }

    /// Whether a connection may fetch `info`, of so many bytes. One that is too slow makes room.
    fn may_fetch(&mut self, id: InquiryId, size: u32, now: Duration) -> bool {
        if !matches!(self.stage, Stage::Info) {
            return false;
        }
        if self.fetching.contains_key(&id) {
            return true;
        }
        if self.fetching.len() >= FETCHERS {
            let late = self.fetching.iter().find(|(_, until)| **until < now).map(|(late, _)| *late);
            let Some(late) = late else { return false };
            self.fetching.remove(&late);
        }
        self.fetching.insert(id, now + FETCH_TIME + Duration::from_secs((size / FETCH_RATE).into()));
        true
    }

    /// A peer has sent all of what it calls `info`: whether it is.
    fn info_came(&mut self, id: InquiryId, info: &[u8], now: Duration) -> bool {
        self.fetching.remove(&id);
        if !self.wanted.is_meant(info) {
            return false;
        }
        if matches!(self.stage, Stage::Info) {
            self.stage = match Info::parse(info, &self.limits) {
                Ok(info) => {
                    self.wanted = Wanted { v1: info.info_hash_v1(), v2: info.info_hash_v2() };
                    let layers = Layers::new(&info);
                    Stage::Layers { info: Box::new(info), layers, last_came: now }
                }
                Err(error) => Stage::Done(Some(Box::new(Err(error.into())))),
            };
            self.finish();
        }
        true
    }

    /// What a connection should ask its peer for.
    fn next_request(&mut self, id: InquiryId, now: Duration) -> Option<HashRequest> {
        match &mut self.stage {
            Stage::Layers { layers, .. } => layers.next(id, now),
            _ => None,
        }
    }

    /// Hashes have come: whether they are genuine, or of no use any more.
    fn hashes_came(&mut self, request: &HashRequest, hashes: &[[u8; 32]], now: Duration) -> bool {
        let Stage::Layers { layers, last_came, .. } = &mut self.stage else { return true };
        let before = layers.found();
        let genuine = layers.came(request, hashes);
        if layers.found() > before {
            *last_came = now;
        }
        self.finish();
        genuine
    }

    /// The peer has not got these hashes.
    fn rejected(&mut self, id: InquiryId, request: &HashRequest) {
        if let Stage::Layers { layers, .. } = &mut self.stage {
            layers.rejected(id, request);
        }
    }

    /// All is there?
    fn finish(&mut self) {
        let Stage::Layers { layers, .. } = &self.stage else { return };
        if layers.found() < layers.total() {
            return;
        }
        let Stage::Layers { info, layers, .. } = std::mem::replace(&mut self.stage, Stage::Done(None)) else {
            return;
        };
        let found: BTreeMap<_, _> = layers.into_layers();
        let outcome = info.complete(found).map_err(LookupError::from);
        self.stage = Stage::Done(Some(Box::new(outcome)));
    }
}

#[cfg(test)]
mod tests;
