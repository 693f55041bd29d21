//! Metainfo and content manifests, in memory. Everything in it was checked against its name before it came in.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use torrent::{InfoHashV1, InfoHashV2, Limits, Metainfo, MetainfoError, WireId};

use crate::fnv::Fnv;
use crate::limits::{MAX_FRESH, UNCLAIMED};
use crate::replication::frame::{Stored, StoredKind};
use crate::tick::Tick;

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not the metainfo of a torrent.
    #[error("the metainfo is refused")]
    Metainfo(#[from] MetainfoError),
    /// Metainfo of another torrent than the path says.
    #[error("this metainfo is that of {found}, not of {wanted}")]
    OtherTorrent {
        /// In the path.
        wanted: String,
        /// Its infohash.
        found: String,
    },
    /// A manifest whose bytes have another digest.
    #[error("the SHA-256 of this manifest is {found}")]
    OtherManifest {
        /// Its digest.
        found: String,
    },
    /// The store has reached its limit.
    #[error("the store is full: {wanted} more bytes would be over its limit of {limit}")]
    Full {
        /// Bytes to be stored.
        wanted: u64,
        /// Bytes that may be stored.
        limit: u64,
    },
}

/// Metainfo whose infohash was computed, and compared with the name that it was sent under.
#[derive(Clone, Debug)]
pub struct CheckedMetainfo {
    /// The file as it was sent.
    pub bytes: Bytes,
    /// v2 if there is one.
    pub infohash: String,
    /// SHA-256 of the file: what stands beside `info` is not in the infohash.
    pub digest: [u8; 32],
    wire: Vec<WireId>,
    content: Option<[u8; 32]>,
}

/// A manifest whose digest was computed, and compared with the name that it was sent under.
#[derive(Clone, Debug)]
pub struct CheckedManifest {
    bytes: Bytes,
    digest: [u8; 32],
}

/// An infohash as it stands in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Infohash {
    /// 40 digits: v1, or v2 cut to its first 20 bytes.
    Short(WireId),
    /// 64 digits: v2.
    Long(InfoHashV2),
}

impl Infohash {
    /// Reads 40 or 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        match hex.len() {
            40 => hex.parse::<InfoHashV1>().ok().map(|hash| Infohash::Short(hash.into())),
            64 => hex.parse().ok().map(Infohash::Long),
            _ => None,
        }
    }

    /// As it comes in announces.
    pub fn wire(self) -> WireId {
        match self {
            Infohash::Short(id) => id,
            Infohash::Long(hash) => hash.truncated(),
        }
    }
}

/// Parses metainfo and compares it with the infohash it was sent under. This takes time: not for an async thread.
///
/// # Errors
/// See [`StoreError`].
pub fn check_metainfo(bytes: Bytes, wanted: Infohash) -> Result<CheckedMetainfo, StoreError> {
    let metainfo = Metainfo::parse(&bytes, &Limits::OWN)?;
    let (v1, v2) = (metainfo.info_hash_v1(), metainfo.info_hash_v2());
    let infohash = v2.map(|hash| hash.to_string()).or(v1.map(|hash| hash.to_string())).unwrap_or_default();
    let wire = metainfo.wire_ids();
    let matches = match wanted {
        Infohash::Short(id) => wire.contains(&id),
        Infohash::Long(hash) => v2 == Some(hash),
    };
    if !matches {
        let wanted = match wanted {
            Infohash::Short(id) => id.to_string(),
            Infohash::Long(hash) => hash.to_string(),
        };
        return Err(StoreError::OtherTorrent { wanted, found: infohash });
    }
    let digest = Sha256::digest(&bytes).into();
    Ok(CheckedMetainfo { infohash, digest, wire, content: metainfo.content_digest(), bytes })
}

/// Hashes a manifest and compares it with the digest it was sent under. This takes time: not for an async thread.
///
/// # Errors
/// See [`StoreError`].
pub fn check_manifest(bytes: Bytes, wanted: [u8; 32]) -> Result<CheckedManifest, StoreError> {
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    if digest != wanted {
        return Err(StoreError::OtherManifest { found: hex::encode(digest) });
    }
    Ok(CheckedManifest { bytes, digest })
}

/// What claims are still good: the registry, as the store sees it. Asked while the store is locked, so it must not ask the store.
pub trait Claims {
    /// Whether this revision is registered.
    fn revision(&self, name: &str) -> bool;
    /// Whether this infohash is registered.
    fn infohash(&self, id: &WireId) -> bool;
    /// Whether this manifest is registered.
    fn manifest(&self, digest: &[u8; 32]) -> bool;
    /// Whether this infohash is never served, whoever registered it.
    fn denied(&self, id: &WireId) -> bool;
}

/// The store.
#[derive(Debug)]
pub struct Store {
    limit: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: u64,
    /// By the first wire id (the v2 one, if there is one).
    metainfo: HashMap<WireId, Entry<CheckedMetainfo>>,
    /// All wire ids.
    names: HashMap<WireId, WireId>,
    /// Content digests. The same bytes may be in torrents of different versions: the last one sent wins.
    contents: HashMap<[u8; 32], WireId>,
    manifests: HashMap<[u8; 32], Entry<Bytes>>,
    /// What siblings have not been told of yet.
    fresh: Vec<Stored>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    /// Those that it was stored for, as far as they are registered.
    revisions: BTreeSet<String>,
    /// Whether it was stored for any.
    for_revisions: bool,
    stored: Tick,
}

impl Store {
    /// An empty one for at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Store { limit, inner: Mutex::default() }
    }

    /// Stores metainfo, in place of what was there under this infohash. Answers whether it is new.
    ///
    /// # Errors
    /// [`StoreError::Full`]
    pub fn put_metainfo(
        &self,
        checked: CheckedMetainfo,
        revisions: impl IntoIterator<Item = String>,
        now: Tick,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let Some(&id) = checked.wire.first() else { return Ok(false) };
        let before = inner.metainfo.get(&id).map(|entry| entry.value.bytes.len());
        inner.reserve(self.limit, checked.bytes.len(), before)?;
        inner.names.extend(checked.wire.iter().map(|&name| (name, id)));
        if let Some(content) = checked.content {
            inner.contents.insert(content, id);
        }
        let known = inner.metainfo.remove(&id).map(|entry| entry.revisions).unwrap_or_default();
        let entry = Entry::new(checked, known, revisions, now);
        inner.note(named_metainfo(&entry));
        inner.metainfo.insert(id, entry);
        Ok(before.is_none())
    }

    /// Metainfo by infohash.
    pub fn metainfo(&self, infohash: Infohash) -> Option<CheckedMetainfo> {
        let inner = self.lock();
        let entry = inner.metainfo.get(inner.names.get(&infohash.wire())?)?;
        // 64 digits must be right in all of them.
        match infohash {
            Infohash::Long(hash) if entry.value.infohash != hash.to_string() => None,
            _ => Some(entry.value.clone()),
        }
    }

    /// Metainfo by the content digest in its canonical name.
    pub fn metainfo_of_content(&self, digest: &[u8; 32]) -> Option<CheckedMetainfo> {
        let inner = self.lock();
        Some(inner.metainfo.get(inner.contents.get(digest)?)?.value.clone())
    }

    /// Whether metainfo of any of these names is here.
    pub fn has_any(&self, names: &[WireId]) -> bool {
        let inner = self.lock();
        names.iter().any(|name| inner.names.contains_key(name))
    }

    /// Stores a manifest. Answers whether it is new.
    ///
    /// # Errors
    /// [`StoreError::Full`]
    pub fn put_manifest(
        &self,
        checked: CheckedManifest,
        revisions: impl IntoIterator<Item = String>,
        now: Tick,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let before = inner.manifests.get(&checked.digest).map(|entry| entry.value.len());
        inner.reserve(self.limit, checked.bytes.len(), before)?;
        let known = inner.manifests.remove(&checked.digest).map(|entry| entry.revisions).unwrap_or_default();
        let entry = Entry::new(checked.bytes, known, revisions, now);
        inner.note(named_manifest(checked.digest, &entry));
        inner.manifests.insert(checked.digest, entry);
        Ok(before.is_none())
    }

    /// A manifest by its digest.
    pub fn manifest(&self, digest: &[u8; 32]) -> Option<Bytes> {
        self.lock().manifests.get(digest).map(|entry| entry.value.clone())
    }

    /// Drops what nothing registered claims any more, and what is denied.
    pub fn retain(&self, claims: &impl Claims, now: Tick) {
        let mut inner = self.lock();
        inner.metainfo.retain(|_, entry| {
            let claimed = entry.claimed(claims);
            let names = &entry.value.wire;
            let wanted = claimed || names.iter().any(|id| claims.infohash(id));
            wanted && !names.iter().any(|id| claims.denied(id))
        });
        inner.manifests.retain(|digest, entry| {
            entry.claimed(claims) || claims.manifest(digest) || !entry.abandoned(now)
        });
        let Inner { bytes, metainfo, names, contents, manifests, .. } = &mut *inner;
        names.retain(|_, id| metainfo.contains_key(id));
        contents.retain(|_, id| metainfo.contains_key(id));
        let sizes = metainfo
            .values()
            .map(|entry| entry.value.bytes.len())
            .chain(manifests.values().map(|entry| entry.value.len()));
        *bytes = sizes.map(|size| size as u64).sum();
    }

    /// How many metainfo and manifests there are, and their bytes.
    pub fn sizes(&self) -> (usize, usize, u64) {
        let inner = self.lock();
        (inner.metainfo.len(), inner.manifests.len(), inner.bytes)
    }

    /// All that is here.
    pub fn stored(&self) -> Vec<Stored> {
        let inner = self.lock();
        let metainfo = inner.metainfo.values().map(named_metainfo);
        let manifests = inner.manifests.iter().map(|(digest, entry)| named_manifest(*digest, entry));
        metainfo.chain(manifests).collect()
    }

    /// The same at two trackers that hold the same for the same revisions.
    pub fn fingerprint(&self) -> u64 {
        let hash = |stored: &Stored| {
            let mut hasher = Fnv::default();
            hasher.write(stored.name.as_bytes());
            hasher.write(&stored.digest);
            stored.revisions.iter().for_each(|revision| hasher.write(revision.as_bytes()));
            hasher.finish()
        };
        self.stored().iter().fold(0, |sum, stored| sum.wrapping_add(hash(stored)))
    }

    /// What has come in since the last call; if that was more than siblings can be told at once, they find it when they compare.
    pub fn take_fresh(&self) -> Vec<Stored> {
        std::mem::take(&mut self.lock().fresh)
    }

    /// Adds the revisions of `stored` to what is here under its name. False if it is not here, or with bytes that count less.
    pub fn claim(&self, stored: &Stored) -> bool {
        let mut inner = self.lock();
        let revisions = match stored.kind {
            StoredKind::Metainfo => {
                let id = Infohash::parse(&stored.name).map(Infohash::wire);
                let id = id.and_then(|id| inner.names.get(&id).copied());
                let entry = id.and_then(|id| inner.metainfo.get_mut(&id));
                entry.filter(|entry| entry.value.digest >= stored.digest).map(|entry| &mut entry.revisions)
            }
            StoredKind::Manifest => inner.manifests.get_mut(&stored.digest).map(|entry| &mut entry.revisions),
        };
        revisions.map(|revisions| revisions.extend(stored.revisions.iter().cloned())).is_some()
    }

    /// Whether so many more bytes have room.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.lock().bytes.saturating_add(bytes) <= self.limit
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether anything registered wants what a sibling has.
pub fn is_wanted(claims: &impl Claims, stored: &Stored) -> bool {
    let claimed = stored.revisions.iter().any(|revision| claims.revision(revision));
    match stored.kind {
        StoredKind::Metainfo => Infohash::parse(&stored.name)
            .map(Infohash::wire)
            .is_some_and(|id| (claimed || claims.infohash(&id)) && !claims.denied(&id)),
        StoredKind::Manifest => {
            claimed || crate::registry::digest(&stored.name).is_ok_and(|digest| claims.manifest(&digest))
        }
    }
}

fn named_metainfo(entry: &Entry<CheckedMetainfo>) -> Stored {
    Stored {
        kind: StoredKind::Metainfo,
        name: entry.value.infohash.clone(),
        digest: entry.value.digest,
        bytes: entry.value.bytes.len() as u64,
        revisions: entry.revisions.iter().cloned().collect(),
    }
}

fn named_manifest(digest: [u8; 32], entry: &Entry<Bytes>) -> Stored {
    Stored {
        kind: StoredKind::Manifest,
        name: hex::encode(digest),
        digest,
        bytes: entry.value.len() as u64,
        revisions: entry.revisions.iter().cloned().collect(),
    }
}

impl Inner {
    fn note(&mut self, stored: Stored) {
        if self.fresh.len() < MAX_FRESH {
            self.fresh.push(stored);
        }
    }

    /// Counts `new` bytes in the place of `old` ones.
    fn reserve(&mut self, limit: u64, new: usize, old: Option<usize>) -> Result<(), StoreError> {
        let wanted = new as u64;
        let bytes = self.bytes - old.unwrap_or(0) as u64 + wanted;
        if bytes > limit {
            return Err(StoreError::Full { wanted, limit });
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl<T> Entry<T> {
    fn new(
        value: T,
        mut known: BTreeSet<String>,
        revisions: impl IntoIterator<Item = String>,
        now: Tick,
    ) -> Self {
        known.extend(revisions);
        Entry { value, for_revisions: !known.is_empty(), revisions: known, stored: now }
    }

    /// Forgets revisions that are gone, and says whether one is left.
    fn claimed(&mut self, claims: &impl Claims) -> bool {
        self.revisions.retain(|revision| claims.revision(revision));
        !self.revisions.is_empty()
    }

    /// Sent under no revision, so long ago that the registry has had the time to name it.
    fn abandoned(&self, now: Tick) -> bool {
        self.for_revisions || u64::from(now.seconds_since(self.stored)) >= UNCLAIMED.as_secs()
    }
}

#[cfg(test)]
mod tests;
