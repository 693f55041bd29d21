//! Bytes that revisions have in common: files that are hard links of each other take their space once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use torrent::manifest::Manifest;

use super::reuse::{Content, others};
use super::{Layout, StoreError};

/// Device and inode.
type Identity = (u64, u64);

/// How many bytes of the files below `data` are also those of each published revision but `revision` itself.
pub fn shared_bytes(
    layout: &Layout,
    revision: &str,
    data: &Path,
    manifest: &Manifest,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let others: Vec<_> = others(layout, revision).collect();
    let mut shared = BTreeMap::new();
    let ours = if others.is_empty() { BTreeMap::new() } else { linked(data, manifest) };
    if ours.is_empty() {
        return Ok(shared);
    }
    for (name, record) in others {
        let folder = layout.published(&name);
        let Some(digest) = record.manifest_digest else { continue };
        let Ok(theirs) = crate::contents::load_manifest(&folder, &digest) else { continue };
        let bytes = in_common(&ours, &folder.data(), &theirs);
        if bytes > 0 {
            shared.insert(name, bytes);
        }
    }
    Ok(shared)
}

/// Files with a second name. Without one they are nobody else's.
fn linked(data: &Path, manifest: &Manifest) -> BTreeMap<Content, Vec<Identity>> {
    let mut linked: BTreeMap<Content, Vec<Identity>> = BTreeMap::new();
    for entry in manifest.entries().iter().filter(|entry| entry.size > 0) {
        if let Ok(metadata) = fs::symlink_metadata(data.join(entry.path.as_str()))
            && metadata.nlink() > 1
        {
            linked.entry((entry.sha256, entry.size)).or_default().push((metadata.dev(), metadata.ino()));
        }
    }
    linked
}

fn in_common(ours: &BTreeMap<Content, Vec<Identity>>, data: &Path, theirs: &Manifest) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    for entry in theirs.entries() {
        let Some(candidates) = ours.get(&(entry.sha256, entry.size)) else { continue };
        let Ok(metadata) = fs::symlink_metadata(data.join(entry.path.as_str())) else { continue };
        let identity = (metadata.dev(), metadata.ino());
        if candidates.contains(&identity) {
            seen.insert((identity, entry.size));
        }
    }
    seen.iter().map(|(_, size)| size).sum()
}
