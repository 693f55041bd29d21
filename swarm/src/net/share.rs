//! What a torrent is added with, whether it is known whole or grows.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use torrent::RelPath;

use super::api::{AddTorrent, Assume, GrowTorrent, TrackerSpec};
use crate::bitfield::Bitfield;
use crate::subject::Subject;

/// Where a torrent lies, and what is believed of what lies there.
#[derive(Debug)]
pub struct Place {
    /// The folder that the layout is relative to.
    pub folder: PathBuf,
    /// Where each payload file lies in it.
    pub layout: Vec<RelPath>,
    /// Where the journal is kept.
    pub journal: Option<PathBuf>,
    /// What to believe.
    pub assume: Assume,
}

/// A torrent to share.
#[derive(Debug)]
pub struct Share {
    /// What it is.
    pub subject: Subject,
    /// The pieces that are wanted; `None`: all of them.
    pub wanted: Option<Bitfield>,
    /// Where it lies.
    pub place: Place,
    /// All are announced to.
    pub trackers: Vec<TrackerSpec>,
    /// Peers that are known without a tracker.
    pub peers: Vec<SocketAddr>,
    /// Web seeds.
    pub web_seeds: Vec<String>,
    /// See [`GrowTorrent::held`].
    pub held: Vec<Range<u32>>,
}

impl Share {
    /// Only the `wanted` pieces of it.
    pub fn only(self, wanted: Option<Bitfield>) -> Self {
        Self { wanted, ..self }
    }
}

impl From<AddTorrent> for Share {
    fn from(add: AddTorrent) -> Self {
        let AddTorrent { metainfo, folder, layout, journal, trackers, assume, peers, web_seeds } = add;
        let place = Place { folder, layout, journal, assume };
        let (subject, held) = (Subject::whole(metainfo), Vec::new());
        Self { subject, wanted: None, place, trackers, peers, web_seeds, held }
    }
}

impl From<&GrowTorrent> for Share {
    fn from(grow: &GrowTorrent) -> Self {
        let layout = grow.outline.plan().files().iter().map(|(path, _)| path.clone()).collect();
        let (folder, journal) = (grow.folder.clone(), Some(grow.journal.clone()));
        Self {
            subject: Subject::growing(&grow.outline),
            wanted: None,
            place: Place { folder, layout, journal, assume: Assume::Journal },
            trackers: grow.trackers.clone(),
            peers: grow.peers.clone(),
            web_seeds: Vec::new(),
            held: grow.held.clone(),
        }
    }
}
