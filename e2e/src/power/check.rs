//! What must hold on a disk after a cut.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use swarm::bitfield::Bitfield;
use swarm::core::InnerId;
use swarm::journal::{self, JournalError};
use swarm::{Assume, Engine, Phase};

use super::payload::{self, Payload, on_loopback};

/// No start on a disk of this size takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is on the disk.
#[derive(Debug)]
pub struct Claims {
    /// The journal says that these pieces are durable.
    pub durable: Bitfield,
    /// And that so many may be there.
    pub unproven: u64,
}

impl Claims {
    /// Reads the journal on the disk mounted at `root`.
    pub fn read(payload: &Payload, root: &Path) -> Result<Self> {
        let pieces = payload.metainfo.pieces().count();
        let path = payload::journal(root);
        let nothing = Self { durable: Bitfield::new(pieces), unproven: 0 };
        if !path.exists() {
            return Ok(nothing);
        }
        let bytes = std::fs::read(&path)?;
        match journal::replay(&bytes, &InnerId::of(&payload.metainfo).0, pieces) {
            Ok(replay) => Ok(Self { durable: replay.durable, unproven: replay.unproven.len() as u64 }),
            // A journal that cannot be read claims nothing. Whether something is lost thereby, the caller sees.
            Err(JournalError::Header | JournalError::OtherTorrent) => Ok(nothing),
        }
    }

    /// Claimed pieces whose bytes are not there.
    pub fn bad(&self, payload: &Payload, root: &Path) -> Vec<u32> {
        self.durable.iter().filter(|piece| !is_there(payload, root, *piece).unwrap_or(false)).collect()
    }

    /// Pieces that were said to be durable, and are not claimed.
    pub fn lost(&self, said: &Bitfield) -> Vec<u32> {
        said.iter().filter(|piece| !self.durable.contains(*piece)).collect()
    }

    /// Bytes of the claimed pieces.
    pub fn bytes(&self, payload: &Payload) -> u64 {
        self.durable.iter().map(|piece| payload.piece_len(piece)).sum()
    }
}

/// Compares a piece on disk with the bytes it was made of.
fn is_there(payload: &Payload, root: &Path, piece: u32) -> Result<bool> {
    let mut found = Vec::new();
    for (file, offset, bytes) in payload.parts(piece) {
        found.resize(bytes.len(), 0);
        let path = payload::data(root).join(payload.path(file).as_str());
        File::open(path)?.read_exact_at(&mut found, offset)?;
        if found != bytes {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How a start after the cut went.
#[derive(Debug)]
pub struct Recovery {
    /// Until everything was looked at.
    pub checking: Duration,
    /// Payload bytes fetched.
    pub downloaded: u64,
}

/// Starts an engine on the disk mounted at `root`, lets it fetch what is missing, and compares all bytes.
pub async fn recover(payload: &Payload, root: &Path, seed: SocketAddr) -> Result<Recovery> {
    let start = Instant::now();
    let engine = Engine::start(on_loopback()?).await?;
    let spec = payload::spec(payload.metainfo.clone(), root, Assume::Journal, vec![seed]);
    let handle = engine.add(spec).await?;
    let mut stats = handle.changed();
    stats.wait_for(|stats| stats.phase != Phase::Checking).await?;
    let checking = start.elapsed();
    let complete = tokio::time::timeout(PATIENCE, handle.wait_complete()).await;
    complete.with_context(|| format!("not complete after the cut: {:?}", handle.stats()))?;
    let downloaded = handle.stats().downloaded;
    engine.shutdown().await;
    let all = Claims::read(payload, root)?;
    ensure!(all.durable.is_full(), "complete after the cut, but the journal does not say so");
    let bad = all.bad(payload, root);
    ensure!(bad.is_empty(), "complete after the cut, but these pieces are wrong: {bad:?}");
    Ok(Recovery { checking, downloaded })
}
