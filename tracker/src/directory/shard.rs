//! A part of the swarms, behind one lock.

use std::sync::Arc;

use hashbrown::HashMap;
use torrent::WireId;

use super::news::News;
use crate::registry::SwarmNames;
use crate::swarm::Swarm;

/// The swarms are spread over so many locks, by the first byte of their names: what one thread does in one of them holds up only
/// those that want the same part, and siblings compare part by part.
pub const SHARDS: usize = 256;

/// Which part a name belongs to.
pub(super) fn number(name: WireId) -> usize {
    usize::from(name.0[0])
}

/// One part.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<WireId, Entry>,
    /// What siblings have not been told yet.
    pub news: News,
    /// Those that were taken in so far: counted under a lock that is held anyway, since all threads would fight over one count.
    pub announces: u64,
}

/// What a name leads to.
#[derive(Debug)]
pub(super) enum Entry {
    /// A swarm. It stands under the smallest of its names, so that siblings agree where.
    Swarm(Box<Slot>),
    /// Another name of a swarm: its smallest one.
    Alias(WireId),
}

/// What an announce finds under a name.
pub(super) enum Found<'s> {
    /// The swarm, and what siblings are to hear of its part.
    Swarm(&'s mut Slot, &'s mut News),
    /// Another name, under which it is to look.
    Alias(WireId),
    Nothing,
}

/// A swarm, and what it is called.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// As registered; none for a public tracker's swarms that nobody registered.
    pub names: Option<Arc<SwarmNames>>,
    pub swarm: Swarm,
}

impl Shard {
    pub fn get(&self, name: WireId) -> Option<&Entry> {
        self.entries.get(&name)
    }

    /// Looks for the swarm of an announce under this name, and counts it when that is found.
    pub fn look(&mut self, name: WireId) -> Found<'_> {
        match self.entries.get_mut(&name) {
            Some(Entry::Swarm(slot)) => {
                self.announces += 1;
                Found::Swarm(slot, &mut self.news)
            }
            Some(Entry::Alias(canonical)) => Found::Alias(*canonical),
            None => Found::Nothing,
        }
    }

    /// Where the swarm of this name stands.
    pub fn canonical(&self, name: WireId) -> WireId {
        match self.entries.get(&name) {
            Some(Entry::Alias(canonical)) => *canonical,
            _ => name,
        }
    }

    /// The swarm that stands under this name.
    pub fn slot(&mut self, name: WireId) -> Option<&mut Slot> {
        match self.entries.get_mut(&name) {
            Some(Entry::Swarm(slot)) => Some(slot),
            _ => None,
        }
    }

    /// Puts an entry in, and answers what was there.
    pub fn insert(&mut self, name: WireId, entry: Entry) -> Option<Entry> {
        self.entries.insert(name, entry)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: WireId) -> Option<Entry> {
        self.entries.remove(&name)
    }

    /// All swarms and the names under which they stand.
    pub fn slots(&self) -> impl Iterator<Item = (WireId, &Slot)> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Swarm(slot) => Some((*name, &**slot)),
            Entry::Alias(_) => None,
        })
    }

    /// Lets `each` change every entry, and takes out those for which it says false.
    pub fn retain(&mut self, mut each: impl FnMut(WireId, &mut Entry) -> bool) {
        self.entries.retain(|name, entry| each(*name, entry));
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to_fit();
        }
    }
}
