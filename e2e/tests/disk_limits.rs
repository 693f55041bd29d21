//! Downloads onto file systems that are too small (T67, T69), and that grow.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use swarm::net::storage::Memory;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, Trouble};
use tempfile::TempDir;
use torrent::{Builder, Metainfo, RelPath, Version};

const PATIENCE: Duration = Duration::from_mins(1);
const FILES: usize = 40;
const FILE: usize = 300_000;

/// A file system in memory.
struct Small {
    at: TempDir,
}

impl Small {
    fn mount(options: &str) -> Result<Self> {
        let at = tempfile::tempdir()?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at.path()))?;
        Ok(Self { at })
    }

    fn grow(&self, options: &str) -> Result<()> {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.at.path()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Files may still be open; it goes with the last of them.
        drop(run(Command::new("umount").arg("--lazy").arg(self.at.path())));
    }
}

fn run(command: &mut Command) -> Result<()> {
    ensure!(command.status()?.success(), "{command:?} failed");
    Ok(())
}

/// A torrent of many files, and their bytes.
fn payload() -> Result<(Arc<Metainfo>, Vec<Vec<u8>>)> {
    let make = |index| Ok((RelPath::parse(&format!("{index:02}"))?, e2e::payload::bytes(index as u64, FILE)));
    let files = (0..FILES).map(make).collect::<Result<Vec<_>>>()?;
    let metainfo = e2e::payload::torrent(Builder::new(Version::V2, 64 * 1024)?, &files)?;
    Ok((Arc::new(metainfo), files.into_iter().map(|(_, bytes)| bytes).collect()))
}

fn spec(metainfo: &Arc<Metainfo>, folder: PathBuf, assume: Assume) -> AddTorrent {
    let journal = (assume == Assume::Journal).then(|| folder.join("journal"));
    let layout = metainfo.files().iter().map(|file| file.path.clone()).collect();
    let metainfo = metainfo.clone();
    AddTorrent {
        metainfo,
        folder,
        layout,
        journal,
        trackers: vec![],
        web_seeds: vec![],
        assume,
        peers: vec![],
    }
}

async fn engine() -> Result<Engine> {
    let listen = vec!["127.0.0.1:0".parse()?];
    Ok(Engine::start(EngineConfig { listen, ..EngineConfig::default() }).await?)
}

/// The disk is full, the download waits, the disk grows, the download completes; nothing was fetched twice.
async fn waits_until_it_grows(options: &str, more: &str) -> Result<()> {
    let small = Small::mount(options)?;
    let (metainfo, files) = payload()?;
    let (from, to) = (engine().await?, engine().await?);
    let memory = Arc::new(Memory::full(files.clone()));
    from.add_with(spec(&metainfo, PathBuf::from("memory"), Assume::Complete), memory).await?;
    let handle = to.add(spec(&metainfo, small.at.path().to_owned(), Assume::Journal)).await?;
    handle.add_peers(from.addresses().to_vec());

    let mut stats = handle.changed();
    let full = stats.wait_for(|stats| stats.trouble == Some(Trouble::DiskFull));
    tokio::time::timeout(PATIENCE, full).await.context("it is never full")??;
    ensure!(handle.stats().have < handle.stats().total);
    small.grow(more)?;
    let complete = tokio::time::timeout(PATIENCE, handle.wait_complete()).await;
    complete.with_context(|| format!("not complete: {:?}", handle.stats()))?;
    let stats = handle.stats();
    ensure!((stats.downloaded, stats.wasted, stats.trouble) == (stats.total, 0, None));
    for (index, bytes) in files.iter().enumerate() {
        ensure!(std::fs::read(small.at.path().join(format!("{index:02}")))? == *bytes, "file {index}");
    }
    Ok(())
}

async fn unless_skipped(what: &str, options: &str, more: &str) -> Result<()> {
    let missing = xtask::tools::missing_for_disks();
    if !missing.is_empty() {
        return e2e::real::skip(what, &missing.join("; "));
    }
    waits_until_it_grows(options, more).await
}

#[tokio::test(flavor = "multi_thread")]
async fn t067_a_download_waits_for_space_and_completes() -> Result<()> {
    unless_skipped("a full file system", "size=4m", "size=64m").await
}

#[tokio::test(flavor = "multi_thread")]
async fn t069_a_download_waits_for_inodes_and_completes() -> Result<()> {
    unless_skipped("a file system without inodes", "size=64m,nr_inodes=20", "nr_inodes=200").await
}
