//! Metainfo and content manifests, in memory. Everything in it was checked against its name before it came in.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use torrent::{InfoHashV1, InfoHashV2, Limits, Metainfo, MetainfoError, WireId};

use crate::limits::UNCLAIMED;
use crate::swarm::Seconds;

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
    /// As in the `ETag`: v2 if there is one.
    pub infohash: String,
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
    Ok(CheckedMetainfo { bytes, infohash, wire, content: metainfo.content_digest() })
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
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    revisions: BTreeSet<String>,
    stored: Seconds,
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
        revision: Option<String>,
        now: Seconds,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let Some(&id) = checked.wire.first() else { return Ok(false) };
        let before = inner.metainfo.get(&id).map(|entry| entry.value.bytes.len());
        inner.reserve(self.limit, checked.bytes.len(), before)?;
        inner.names.extend(checked.wire.iter().map(|&name| (name, id)));
        if let Some(content) = checked.content {
            inner.contents.insert(content, id);
        }
        let revisions = inner.metainfo.remove(&id).map(|entry| entry.revisions).unwrap_or_default();
        inner.metainfo.insert(id, Entry::new(checked, revisions, revision, now));
        Ok(before.is_none())
    }

    /// Metainfo by infohash: its bytes, and the `ETag`.
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
        revision: Option<String>,
        now: Seconds,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let before = inner.manifests.get(&checked.digest).map(|entry| entry.value.len());
        inner.reserve(self.limit, checked.bytes.len(), before)?;
        let revisions =
            inner.manifests.remove(&checked.digest).map(|entry| entry.revisions).unwrap_or_default();
        inner.manifests.insert(checked.digest, Entry::new(checked.bytes, revisions, revision, now));
        Ok(before.is_none())
    }

    /// A manifest by its digest.
    pub fn manifest(&self, digest: &[u8; 32]) -> Option<Bytes> {
        self.lock().manifests.get(digest).map(|entry| entry.value.clone())
    }

    /// Drops what nothing registered claims any more.
    pub fn retain(&self, claims: &impl Claims, now: Seconds) {
        let mut inner = self.lock();
        inner.metainfo.retain(|_, entry| {
            entry.claimed(claims) || entry.value.wire.iter().any(|id| claims.infohash(id))
        });
        inner.manifests.retain(|digest, entry| {
            entry.claimed(claims) || claims.manifest(digest) || !entry.abandoned(now)
        });
        let Inner { bytes, metainfo, names, contents, manifests } = &mut *inner;
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
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
    fn new(value: T, mut revisions: BTreeSet<String>, revision: Option<String>, now: Seconds) -> Self {
        revisions.extend(revision);
        Entry { value, revisions, stored: now }
    }

    fn claimed(&self, claims: &impl Claims) -> bool {
        self.revisions.iter().any(|revision| claims.revision(revision))
    }

    /// Sent under no revision, so long ago that the registry has had the time to name it.
    fn abandoned(&self, now: Seconds) -> bool {
        !self.revisions.is_empty() || u64::from(now.0.saturating_sub(self.stored.0)) >= UNCLAIMED.as_secs()
    }
}

#[cfg(test)]
mod tests;
