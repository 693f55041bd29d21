//! What siblings have not been told yet. Only names are noted: what is sent is how things stand then.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use torrent::WireId;

/// Peers that are noted in one part; when more are waiting, all of the part is sent.
const MAX_NEWS: usize = 4_096;

/// Where a peer is, as siblings name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// A stranger.
    V4(Ipv4Addr),
    /// A stranger.
    V6(Ipv6Addr),
    /// A node by its name; each tracker knows from the operator where it is.
    Node(Arc<str>),
}

/// A peer of which siblings must hear.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub swarm: WireId,
    pub at: At,
    pub port: u16,
    /// Whether it has become complete. The state of a peer does not tell when.
    pub completed: bool,
}

/// The news of one part.
#[derive(Debug, Default)]
pub(super) struct News {
    items: Vec<Item>,
    overflown: bool,
}

/// What is to be sent of one part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// These, each peer once.
    Items(Vec<Item>),
    /// More than could be noted: all of it.
    Everything,
}

impl News {
    pub fn note(&mut self, item: Item) {
        if self.items.len() < MAX_NEWS {
            self.items.push(item);
        } else {
            self.overflown = true;
        }
    }

    pub fn take(&mut self) -> Due {
        let mut items = std::mem::take(&mut self.items);
        if std::mem::take(&mut self.overflown) {
            return Due::Everything;
        }
        if items.is_empty() {
            return Due::Nothing;
        }
        items.sort_unstable();
        // `completed` is sorted last, so of two the one that says it comes second.
        items.dedup_by(|later, kept| {
            let same = (&later.swarm, &later.at, later.port) == (&kept.swarm, &kept.at, kept.port);
            kept.completed |= same && later.completed;
            same
        });
        Due::Items(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(port: u16, completed: bool) -> Item {
        Item { swarm: WireId([1; 20]), at: At::V4(Ipv4Addr::LOCALHOST), port, completed }
    }

    #[test]
    fn a_peer_is_told_of_once_and_nothing_of_it_is_lost() {
        let mut news = News::default();
        assert_eq!(news.take(), Due::Nothing);
        for noted in [item(2, false), item(1, false), item(2, true), item(2, false)] {
            news.note(noted);
        }
        assert_eq!(news.take(), Due::Items(vec![item(1, false), item(2, true)]));
        assert_eq!(news.take(), Due::Nothing);
    }

    #[test]
    fn more_than_can_be_noted_means_everything() {
        let mut news = News::default();
        for port in 0..=MAX_NEWS as u16 {
            news.note(item(port, false));
        }
        assert_eq!(news.items.len(), MAX_NEWS);
        assert_eq!((news.take(), news.take()), (Due::Everything, Due::Nothing));
    }
}
