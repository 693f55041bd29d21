//! The outline of one blob of a registry.

use std::collections::BTreeMap;

use super::{Outline, OutlineError, PublicKey};
use crate::build::piece_length_for;
use crate::metainfo::Version;
use crate::path::RelPath;

impl Outline {
    /// Of a single blob, where an OCI image layout has it. `scope` says among whom it is shared: with it, digest, length, epoch and key
    /// everyone makes the same outline, so that the id alone tells which blob is meant. v2 only: nobody gets a torrent of it.
    pub fn of_blob(
        scope: &str,
        digest: [u8; 32],
        length: u64,
        epoch: u32,
        key: PublicKey,
    ) -> Result<Self, OutlineError> {
        let path = format!("blobs/sha256/{}", hex::encode(digest));
        let path = RelPath::parse(&path).map_err(|error| OutlineError::Path { path, error })?;
        let declared = BTreeMap::from([(path.clone(), digest)]);
        let (about, pieces) = (format!("blob/{scope}"), piece_length_for(length));
        Ok(Self::new(&about, epoch, key, Version::V2, pieces, vec![(path, length)])?.declaring(&declared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::SigningKey;

    #[test]
    fn everyone_makes_the_same_of_a_blob_and_another_of_another() {
        let key = |seed| SigningKey::from_seed(&[seed; 32]).public();
        let first = Outline::of_blob("default", [1; 32], 5 << 20, 0, key(1)).unwrap();
        assert_eq!(first.id(), Outline::of_blob("default", [1; 32], 5 << 20, 0, key(1)).unwrap().id());
        assert_eq!(first.digest(0), Some([1; 32]));
        assert_eq!(first.plan().pieces().count(), 5);
        assert_eq!(Outline::parse(&first.encode()).unwrap().id(), first.id());
        for other in [
            Outline::of_blob("fast", [1; 32], 5 << 20, 0, key(1)),
            Outline::of_blob("default", [2; 32], 5 << 20, 0, key(1)),
            Outline::of_blob("default", [1; 32], 6 << 20, 0, key(1)),
            Outline::of_blob("default", [1; 32], 5 << 20, 1, key(1)),
            Outline::of_blob("default", [1; 32], 5 << 20, 0, key(2)),
        ] {
            assert_ne!(other.unwrap().id(), first.id());
        }
    }
}
