//! What is downloaded, and from whom.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use swarm::net::storage::Memory;
use swarm::{AddTorrent, Assume, Engine, EngineConfig};
use torrent::{Builder, Metainfo, RelPath, Version};

/// Bytes of each torrent: 1 to 6 s at the rates of the seeds, in which there are as many barriers.
const TOTAL: usize = 24 << 20;

/// A torrent, its .torrent file, and its bytes.
#[derive(Debug)]
pub struct Payload {
    /// For findings.
    pub name: &'static str,
    /// What it is.
    pub metainfo: Arc<Metainfo>,
    /// For the leecher.
    pub torrent_file: PathBuf,
    /// The bytes of each file, in the order of the metainfo.
    pub files: Vec<Vec<u8>>,
}

/// All that there are.
#[derive(Debug)]
pub struct Payloads(pub Vec<Payload>);

impl Payloads {
    /// One file; a few whose pieces cross their borders; more than are synced one by one.
    pub fn make(folder: &Path) -> Result<Self> {
        let one = Payload::new(folder, "one", Version::V2, 64 << 10, 1)?;
        let few = Payload::new(folder, "few", Version::V1, 256 << 10, 5)?;
        let many = Payload::new(folder, "many", Version::Hybrid, 32 << 10, 300)?;
        Ok(Self(vec![one, few, many]))
    }
}

impl Payload {
    fn new(folder: &Path, name: &'static str, version: Version, piece: u64, count: usize) -> Result<Self> {
        let make = |index| {
            // No multiple of anything.
            let mut bytes = vec![0; TOTAL / count + index + 11];
            crate::payload::fill(index as u64, piece, &mut bytes);
            Ok((RelPath::parse(&format!("{name}/{:02}/{index:04}", index / 100))?, bytes))
        };
        let files = (0..count).map(make).collect::<Result<Vec<_>>>()?;
        let metainfo = crate::payload::torrent(Builder::new(version, piece)?, &files)?;
        let files = files.into_iter().map(|(_, bytes)| bytes).collect();
        let torrent_file = folder.join(format!("{name}.torrent"));
        std::fs::write(&torrent_file, metainfo.encode())?;
        Ok(Self { name, metainfo: Arc::new(metainfo), torrent_file, files })
    }

    /// Where a piece lies: file, offset, and what has to be there.
    pub fn parts(&self, piece: u32) -> impl Iterator<Item = (usize, u64, &[u8])> {
        self.metainfo.pieces().segments(piece).map(|segment| {
            let from = segment.offset_in_file as usize;
            let bytes = &self.files[segment.file][from..from + segment.len as usize];
            (segment.file, segment.offset_in_file, bytes)
        })
    }

    /// Bytes of a piece, without padding.
    pub fn piece_len(&self, piece: u32) -> u64 {
        self.parts(piece).map(|(_, _, bytes)| bytes.len() as u64).sum()
    }

    /// Where a file lies below the folder of the download.
    pub fn path(&self, file: usize) -> &RelPath {
        &self.metainfo.files()[file].path
    }
}

/// An engine that has everything, in memory.
pub async fn seed(payloads: &Payloads) -> Result<(Engine, SocketAddr)> {
    let engine = Engine::start(on_loopback()?).await?;
    for payload in &payloads.0 {
        let spec = spec(payload.metainfo.clone(), Path::new("memory"), Assume::Complete, Vec::new());
        engine.add_with(spec, Arc::new(Memory::full(payload.files.clone()))).await?;
    }
    let address = *engine.addresses().first().context("the seed listens nowhere")?;
    Ok((engine, address))
}

/// Settings for an engine on a free port.
pub fn on_loopback() -> Result<EngineConfig> {
    Ok(EngineConfig { listen: vec!["127.0.0.1:0".parse()?], ..EngineConfig::default() })
}

/// Files and journal of a torrent as they lie on the disk mounted at `root`.
pub fn spec(metainfo: Arc<Metainfo>, root: &Path, assume: Assume, peers: Vec<SocketAddr>) -> AddTorrent {
    AddTorrent {
        layout: metainfo.files().iter().map(|file| file.path.clone()).collect(),
        metainfo,
        folder: data(root),
        journal: (assume == Assume::Journal).then(|| journal(root)),
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        assume,
        peers,
    }
}

/// The folder of the payload on the disk mounted at `root`.
pub fn data(root: &Path) -> PathBuf {
    root.join("data")
}

/// The torrent's journal there.
pub fn journal(root: &Path) -> PathBuf {
    root.join("journal")
}
