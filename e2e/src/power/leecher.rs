//! The process that is cut off: the shipped engine, and what it says about itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use swarm::bitfield::Bitfield;
use swarm::{Assume, Engine, Phase};
use torrent::{Limits, Metainfo};

use super::payload::{Payload, on_loopback, spec};

/// What it downloads, from where, whereto.
#[derive(Debug, Clone, clap::Args)]
pub struct Leech {
    torrent: PathBuf,
    root: PathBuf,
    peer: SocketAddr,
}

/// Downloads until it is killed. Each time pieces have become durable it prints `durable` and all that are, in hexadecimal; when it
/// has everything, `complete`.
pub async fn leech(leech: Leech) -> Result<()> {
    let metainfo = Arc::new(Metainfo::parse(&std::fs::read(&leech.torrent)?, &Limits::OWN)?);
    let engine = Engine::start(on_loopback()?).await?;
    let handle = engine.add(spec(metainfo, &leech.root, Assume::Journal, vec![leech.peer])).await?;
    let mut changed = handle.changed();
    let mut said = None;
    loop {
        let (durable, phase) = (handle.durable(), handle.stats().phase);
        if said.as_ref() != Some(&durable) {
            say(&format!("durable {}", hex::encode(durable.to_wire())))?;
            said = Some(durable);
        }
        if phase == Phase::Complete {
            say("complete")?;
            std::future::pending::<()>().await;
        }
        changed.changed().await?;
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What a leecher has said until now.
#[derive(Debug, Clone)]
pub struct Said {
    /// These pieces are durable.
    pub durable: Bitfield,
    /// It has everything.
    pub complete: bool,
    /// It has ended by itself, which it must not.
    pub ended: bool,
}

/// A running one. Dropped, it is killed.
#[derive(Debug)]
pub struct Leecher {
    child: Child,
    said: Arc<Mutex<Said>>,
}

impl Leecher {
    /// Starts it on the disk mounted at `root`.
    pub fn start(payload: &Payload, root: &Path, peer: SocketAddr) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("leech")
            .args([&payload.torrent_file, root])
            .arg(peer.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .context("the leecher cannot start")?;
        let durable = Bitfield::new(payload.metainfo.pieces().count());
        let said = Arc::new(Mutex::new(Said { durable, complete: false, ended: false }));
        let (out, heard) = (child.stdout.take().context("its output is piped")?, said.clone());
        std::thread::spawn(move || listen(out, &heard));
        Ok(Self { child, said })
    }

    /// What it has said until now.
    pub fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Leecher {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn listen(out: ChildStdout, said: &Mutex<Said>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        // A torn last line says nothing.
        drop(said.hear(&line));
    }
    said.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
}

impl Said {
    fn hear(&mut self, line: &str) -> Result<()> {
        match *line.split(' ').collect::<Vec<_>>() {
            ["durable", pieces] => {
                self.durable = Bitfield::from_wire(&hex::decode(pieces)?, self.durable.len())?;
            }
            ["complete"] => self.complete = true,
            _ => bail!("{line} says nothing"),
        }
        Ok(())
    }
}
