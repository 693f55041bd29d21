//! What is moved: bytes in a file, and the torrents of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use torrent::{Builder, Limits, Metainfo, RelPath, Version, WireId};

/// A .torrent.
#[derive(Debug)]
pub(super) struct Torrent {
    /// Where it lies.
    pub path: PathBuf,
    /// Under what a tracker knows it.
    pub id: WireId,
}

impl Torrent {
    /// One that is there.
    pub fn read(path: &Path) -> Result<Self> {
        let metainfo = Metainfo::parse(&std::fs::read(path)?, &Limits::OWN)?;
        let id = *metainfo.wire_ids().first().context("a torrent has an infohash")?;
        Ok(Self { path: path.to_owned(), id })
    }

    fn write(metainfo: Metainfo, tracker: &str, path: PathBuf) -> Result<Self> {
        let id = *metainfo.wire_ids().first().context("a torrent has an infohash")?;
        std::fs::write(&path, metainfo.with_trackers(vec![vec![tracker.to_owned()]]).encode())?;
        Ok(Self { path, id })
    }
}

/// Some bytes, and where the seed has them.
#[derive(Debug)]
pub(super) struct Payload {
    /// For those who can read it.
    pub hybrid: Torrent,
    /// For those who cannot.
    pub v1: Torrent,
    /// The tracker of both.
    pub tracker: String,
    /// The folder that holds the file.
    pub folder: PathBuf,
    /// The file's name, `sha256-<hex>` of its bytes.
    pub name: String,
}

impl Payload {
    /// Makes `size` bytes in `folder`, and the torrents, with pieces of `piece` bytes, in `beside`.
    pub fn make(folder: &Path, beside: &Path, size: u64, piece: u64, tracker: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::create_dir_all(beside)?;
        let (hybrid, v1) = (Builder::new(Version::Hybrid, piece)?, Builder::new(Version::V1, piece)?);
        let (mut hybrid_hasher, mut v1_hasher) = (hybrid.file_hasher(1), v1.file_hasher(1));
        let path = folder.join("payload");
        let mut file = std::fs::File::create(&path)?;
        crate::payload::generate(1, size, |chunk| {
            hybrid_hasher.update(chunk);
            v1_hasher.update(chunk);
            Ok(file.write_all(chunk)?)
        })?;
        // Written back now, so that no run pays for it.
        file.sync_all()?;
        let inside = RelPath::parse("payload")?;
        let hybrid = hybrid.build(vec![(inside.clone(), hybrid_hasher.finish())])?;
        let v1 = v1.build(vec![(inside, v1_hasher.finish())])?;
        ensure!(hybrid.name() == v1.name(), "the torrents of one file have two names");
        let name = hybrid.name().to_owned();
        std::fs::rename(&path, folder.join(&name))?;
        Ok(Self {
            hybrid: Torrent::write(hybrid, tracker, beside.join("hybrid.torrent"))?,
            v1: Torrent::write(v1, tracker, beside.join("v1.torrent"))?,
            tracker: tracker.to_owned(),
            folder: folder.to_owned(),
            name,
        })
    }

    /// What a leecher says that it has, it has.
    pub async fn check(&self, folder: &Path) -> Result<()> {
        let file = folder.join(&self.name);
        let found = tokio::task::spawn_blocking(move || crate::payload::sha256_file(&file)).await??;
        ensure!(self.name == format!("sha256-{found}"), "a leecher has other bytes: {found}");
        Ok(())
    }
}
