//! Metainfo and manifest of a revision: from its folder, else from any tracker.

use std::sync::Arc;

use bytes::Bytes;
use torrent::manifest::Manifest;
use torrent::{Metainfo, RelPath};

use super::state::Context;
use crate::contents::{self, ContentsError};
use crate::store::{Folder, Record, write_durably};

/// Both, checked against the revision and against each other.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// The dataset's files.
    pub manifest: Arc<Manifest>,
    /// Where each payload file of the torrent lies in the dataset.
    pub layout: Vec<RelPath>,
}

impl Documents {
    fn new(metainfo: Metainfo, manifest: Manifest) -> Result<Self, ContentsError> {
        let layout = contents::layout(&metainfo, &manifest)?;
        Ok(Self { metainfo: Arc::new(metainfo), manifest: Arc::new(manifest), layout })
    }

    /// From the revision's folder.
    pub fn load(folder: &Folder, record: &Record) -> Result<Self, ContentsError> {
        let digest = record.manifest_digest.as_deref().ok_or(ContentsError::Missing("manifest digest"))?;
        Self::new(contents::load_metainfo(folder, record)?, contents::load_manifest(folder, digest)?)
    }

    /// From any tracker, into the revision's folder.
    pub async fn get(context: &Context, folder: &Folder, record: &Record) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let digest = record.manifest_digest.clone().ok_or("the revision has no manifest digest")?;
        let infohash = infohash(record).ok_or("the revision has no infohash")?;
        let trackers = context.class().trackers.clone();
        let metainfo = context.trackers.metainfo(&trackers, infohash).await.map_err(|error| text(&error))?;
        let manifest = context.trackers.manifest(&trackers, &digest).await.map_err(|error| text(&error))?;
        let (folder, record) = (folder.clone(), record.clone());
        let save = move || Self::save(&folder, &record, &digest, &metainfo, &manifest);
        match tokio::task::spawn_blocking(save).await {
            Ok(result) => result.map_err(|error| text(&error)),
            Err(error) => Err(text(&error)),
        }
    }

    fn save(
        folder: &Folder,
        record: &Record,
        digest: &str,
        metainfo: &Bytes,
        manifest: &Bytes,
    ) -> Result<Self, ContentsError> {
        let documents =
            Self::new(contents::metainfo(metainfo, record)?, contents::manifest(manifest, digest)?)?;
        write_durably(&folder.manifest(), manifest)?;
        write_durably(&folder.metainfo(), metainfo)?;
        Ok(documents)
    }
}

/// The name under which trackers store the metainfo: v2 if there is one.
pub fn infohash(record: &Record) -> Option<&str> {
    record.info_hash_v2.as_deref().or(record.info_hash_v1.as_deref())
}
