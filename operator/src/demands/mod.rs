//! Images on demand: which blobs nodes share although no revision has them, and which node reads each of them. Pure.
//!
//! All of it is in memory. A name follows from class, digest, length, epoch and key alone, so that an operator that starts anew comes to the
//! same ones; which blobs there are it hears from the nodes that hold them, every 30 s. Time is an argument.

mod refusals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use operator_api::{DEMAND_SECONDS, HELD_SECONDS, reason};
use origin::registry::Opened;
use torrent::IngestId;
use torrent::ingest::{Outline, PublicKey};

pub use refusals::{Refusal, Refusals};

/// Who reads shows itself within this.
pub const LEASE: SignedDuration = SignedDuration::from_secs(DEMAND_SECONDS.cast_signed());
/// What a node has said that it holds counts for so long.
pub const HELD: SignedDuration = SignedDuration::from_secs(3 * HELD_SECONDS.cast_signed());
/// A blob that nobody reads, holds or asks for is forgotten after this.
pub const IDLE: SignedDuration = SignedDuration::from_mins(10);
/// A node that could not read does not read again for so long.
const PASSED_OVER: SignedDuration = SignedDuration::from_mins(1);
/// Bytes that proved wrong are not read again before this.
pub const SPOILED: SignedDuration = SignedDuration::from_mins(5);
/// The most blobs of a class.
pub const MAX_BLOBS: usize = 4096;
/// The most that are asked for at registries at a time.
pub const MAX_ASKING: usize = 64;
/// The most nodes of one blob that are passed over.
const MAX_PASSED_OVER: usize = 16;
/// The most nodes of one blob that are known to hold it: more make no difference.
const MAX_HOLDERS: usize = 8;
/// The most blobs that are remembered as spoiled.
const MAX_SPOILED: usize = 1024;

/// A blob of a class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The class.
    pub class: String,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// A blob as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Which.
    pub wanted: Wanted,
    /// `registry/repository`.
    pub name: String,
}

/// What a registry says of a blob: it gives it to everyone.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub url: String,
    /// Its bytes.
    pub size: u64,
    /// What the registry gives to everyone who asks, if it wants to be shown anything.
    pub opened: Option<Opened>,
}

/// What a blob goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name of its swarm.
    pub id: IngestId,
    /// How often it was begun anew.
    pub epoch: u32,
    /// Its bytes.
    pub size: u64,
    /// The operator's key.
    pub key: PublicKey,
}

impl Name {
    /// None where no torrent can be made of it.
    fn of(wanted: &Wanted, size: u64, epoch: u32, key: PublicKey) -> Option<Self> {
        let outline = Outline::of_blob(&wanted.class, wanted.digest, size, epoch, key).ok()?;
        Some(Self { id: outline.id(), epoch, size, key })
    }
}

/// What is to be done about a blob that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is shared.
    Shared(Name),
    /// It is the registry's to give.
    Refused(String),
    /// The caller asks the registry, and says how that ended ([`Demands::found`], [`Demands::refuse`], [`Demands::end`]).
    Ask,
    /// Somebody asks the registry.
    Wait,
    /// There is too much of it.
    Full,
}

/// Whether a node is to read.
#[derive(Clone, Debug)]
pub enum Part {
    /// It reads, from here.
    Reads(Source),
    /// Others do, or have it.
    Gets,
}

#[derive(Debug)]
struct Seat {
    node: String,
    until: Timestamp,
}

#[derive(Debug)]
struct Blob {
    name: Name,
    /// None where only a node's word tells of it: the registry has not been asked.
    source: Option<Source>,
    seat: Option<Seat>,
    /// Nodes that have it whole, and until when their word counts.
    holders: BTreeMap<String, Timestamp>,
    asked_at: Timestamp,
    passed_over: BTreeMap<String, Timestamp>,
}

impl Blob {
    fn new(name: Name, now: Timestamp) -> Self {
        let (holders, passed_over) = (BTreeMap::new(), BTreeMap::new());
        Self { name, source: None, seat: None, holders, asked_at: now, passed_over }
    }

    fn is_held(&self, now: Timestamp) -> bool {
        self.holders.values().any(|until| *until > now)
    }

    fn hold(&mut self, node: &str, now: Timestamp) {
        self.holders.retain(|_, until| *until > now);
        if self.holders.len() < MAX_HOLDERS || self.holders.contains_key(node) {
            self.holders.insert(node.to_owned(), now + HELD);
        }
    }

    fn reader(&self, now: Timestamp) -> Option<&str> {
        self.seat.as_ref().filter(|seat| seat.until > now).map(|seat| seat.node.as_str())
    }

    fn is_in_use(&self, now: Timestamp) -> bool {
        self.is_held(now) || self.reader(now).is_some()
    }

    /// Whether it is not forgotten yet.
    fn lives(&self, now: Timestamp) -> bool {
        self.is_in_use(now) || now.duration_since(self.asked_at) < IDLE
    }
}

#[derive(Debug)]
struct Spoiled {
    epoch: u32,
    until: Timestamp,
}

/// All blobs of all classes.
#[derive(Debug, Default)]
pub struct Demands {
    blobs: BTreeMap<Wanted, Blob>,
    asking: BTreeSet<Asked>,
    refusals: Refusals,
    spoiled: BTreeMap<Wanted, Spoiled>,
}

impl Demands {
    /// What is to be done about a blob. `key`: with which the operator signs now.
    pub fn step(&mut self, asked: &Asked, key: PublicKey, now: Timestamp) -> Step {
        if self.asking.contains(asked) {
            return Step::Wait;
        }
        if self.spoiled.get(&asked.wanted).is_some_and(|spoiled| spoiled.until > now) {
            return Step::Refused(
                "its bytes have proved wrong; it is read again in a few minutes".to_owned(),
            );
        }
        if let Some(blob) = self.blobs.get_mut(&asked.wanted).filter(|blob| blob.name.key == key)
            && blob.source.is_some()
        {
            blob.asked_at = now;
            return Step::Shared(blob.name);
        }
        if let Some(why) = self.refusals.of(asked, now) {
            return Step::Refused(why.to_owned());
        }
        if self.asking.len() >= MAX_ASKING || !self.has_room(&asked.wanted, now) {
            return Step::Full;
        }
        self.asking.insert(asked.clone());
        Step::Ask
    }

    /// The registry gives it to everyone. Says whether trackers have to hear of a new name.
    pub fn found(&mut self, asked: &Asked, source: Source, key: PublicKey, now: Timestamp) -> bool {
        let (wanted, epoch) = (&asked.wanted, self.epoch(&asked.wanted));
        let Some(name) = Name::of(wanted, source.size, epoch, key) else {
            self.refuse(asked, Refusal::lasting("no torrent can be made of it"), now);
            return false;
        };
        let known = self.blobs.get(wanted).is_some_and(|blob| blob.name == name);
        if !known {
            self.blobs.insert(wanted.clone(), Blob::new(name, now));
        }
        if let Some(blob) = self.blobs.get_mut(wanted) {
            blob.source = Some(source);
            blob.asked_at = now;
        }
        !known
    }

    /// The registry does not, or not now.
    pub fn refuse(&mut self, asked: &Asked, refusal: Refusal, now: Timestamp) {
        self.refusals.add(asked.clone(), refusal, now);
    }

    /// Nobody asks the registry for it any more.
    pub fn end(&mut self, asked: &Asked) {
        self.asking.remove(asked);
    }

    /// Which part a node has in a blob that is shared. Who reads it says so again within [`LEASE`].
    pub fn part(&mut self, wanted: &Wanted, node: &str, stuck: bool, now: Timestamp) -> Part {
        let Some(blob) = self.blobs.get_mut(wanted) else { return Part::Gets };
        let Some(source) = blob.source.clone() else { return Part::Gets };
        // Who asks does not have it, or not any more.
        blob.holders.remove(node);
        let passed_over = blob.passed_over.get(node).is_some_and(|until| *until > now);
        let may_begin = !passed_over && (stuck || !blob.is_held(now));
        let free = blob.reader(now).map_or(may_begin, |reader| reader == node);
        if !free {
            return Part::Gets;
        }
        blob.seat = Some(Seat { node: node.to_owned(), until: now + LEASE });
        Part::Reads(source)
    }

    /// What the registry gives to everyone is another by now.
    pub fn reopened(&mut self, wanted: &Wanted, opened: Option<Opened>) {
        if let Some(source) = self.blobs.get_mut(wanted).and_then(|blob| blob.source.as_mut()) {
            source.opened = opened;
        }
    }

    /// A node says that it holds a blob of this length and epoch. Says whether trackers have to hear of a new name.
    pub fn held(
        &mut self,
        wanted: &Wanted,
        node: &str,
        (size, epoch): (u64, u32),
        key: PublicKey,
        now: Timestamp,
    ) -> bool {
        if let Some(blob) = self.blobs.get_mut(wanted) {
            if (blob.name.size, blob.name.epoch, blob.name.key) == (size, epoch, key) {
                blob.hold(node, now);
                blob.seat.take_if(|seat| seat.node == node);
                return false;
            }
            // It was begun anew while another operator led.
            let is_newer = epoch > blob.name.epoch && blob.name.key == key;
            if !is_newer || blob.is_in_use(now) {
                return false;
            }
        }
        // What was spoiled under that epoch, nobody holds.
        if epoch < self.epoch(wanted) || !self.has_room(wanted, now) {
            return false;
        }
        let Some(name) = Name::of(wanted, size, epoch, key) else { return false };
        let mut blob = Blob::new(name, now);
        blob.hold(node, now);
        self.blobs.insert(wanted.clone(), blob);
        true
    }

    /// A node could not read a blob, or what it got is not what the digest says. Says whether the blob is forgotten.
    pub fn fail(&mut self, wanted: &Wanted, node: &str, id: &str, why: &str, now: Timestamp) -> bool {
        let Some(blob) = self.blobs.get_mut(wanted).filter(|blob| blob.name.id.to_string() == id) else {
            return false;
        };
        if matches!(why, reason::DIGEST_MISMATCH | reason::FETCHER_FAULTY | reason::SOURCE_CHANGED) {
            let epoch = blob.name.epoch.saturating_add(1);
            self.blobs.remove(wanted);
            self.spoil(wanted.clone(), Spoiled { epoch, until: now + SPOILED });
            return true;
        }
        if blob.seat.take_if(|seat| seat.node == node).is_none() {
            return false;
        }
        blob.passed_over.retain(|_, until| *until > now);
        if blob.passed_over.len() < MAX_PASSED_OVER {
            blob.passed_over.insert(node.to_owned(), now + PASSED_OVER);
        }
        // It may lie elsewhere by now, or not be everyone's any more: the next one who asks finds out.
        blob.source = None;
        false
    }

    /// What the trackers of a class are to admit.
    pub fn names<'a>(&'a self, class: &'a str, now: Timestamp) -> impl Iterator<Item = IngestId> + 'a {
        let those = self.blobs.iter().filter(move |(wanted, blob)| wanted.class == class && blob.lives(now));
        those.map(|(_, blob)| blob.name.id)
    }

    /// The epoch that a blob is at: what nodes hold counts as much as what is remembered of wrong bytes.
    fn epoch(&self, wanted: &Wanted) -> u32 {
        let spoiled = self.spoiled.get(wanted).map_or(0, |spoiled| spoiled.epoch);
        self.blobs.get(wanted).map_or(spoiled, |blob| spoiled.max(blob.name.epoch))
    }

    fn spoil(&mut self, wanted: Wanted, spoiled: Spoiled) {
        if self.spoiled.len() >= MAX_SPOILED
            && let Some(oldest) =
                self.spoiled.iter().min_by_key(|(_, s)| s.until).map(|(wanted, _)| wanted.clone())
        {
            self.spoiled.remove(&oldest);
        }
        self.spoiled.insert(wanted, spoiled);
    }

    /// Whether there is room for this blob; what lies idle makes some.
    fn has_room(&mut self, wanted: &Wanted, now: Timestamp) -> bool {
        self.blobs.retain(|_, blob| blob.lives(now));
        let of_class = |other: &&Wanted| other.class == wanted.class;
        if self.blobs.contains_key(wanted) || self.blobs.keys().filter(of_class).count() < MAX_BLOBS {
            return true;
        }
        let idle = self.blobs.iter().filter(|(other, blob)| of_class(other) && !blob.is_in_use(now));
        let oldest = idle.min_by_key(|(_, blob)| blob.asked_at).map(|(other, _)| other.clone());
        oldest.is_some_and(|oldest| self.blobs.remove(&oldest).is_some())
    }
}
