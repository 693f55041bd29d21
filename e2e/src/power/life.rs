//! The lives of leechers on one disk, and how they end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use swarm::Engine;
use swarm::bitfield::Bitfield;

use super::check::{Claims, recover};
use super::disk::Disk;
use super::leecher::{Leecher, Said};
use super::payload::{Payloads, seed};
use super::report::Report;

/// Payload bytes per second that a leecher is given.
const RATES: std::ops::RangeInclusive<u64> = 4 << 20..=16 << 20;
/// A barrier comes at the latest after a second: so long is waited for the disk to be written to.
const BARRIER: Duration = Duration::from_millis(1500);

/// One disk, its leecher, and what was promised on it.
pub struct Lives {
    disk: Disk,
    payloads: Arc<Payloads>,
    /// Index of what is being downloaded.
    current: usize,
    leecher: Option<Leecher>,
    /// All that was ever said to be durable on this disk.
    promised: Bitfield,
    /// For leechers, with a limit.
    slow: (Engine, SocketAddr),
    /// For those who start after a cut.
    fast: (Engine, SocketAddr),
    rng: StdRng,
    report: Report,
}

impl Lives {
    /// Makes a disk below `folder` and starts the first leecher.
    pub async fn begin(folder: &Path, payloads: Arc<Payloads>, rng: StdRng) -> Result<Self> {
        let disk = Disk::make(folder)?;
        let (slow, fast) = (seed(&payloads).await?, seed(&payloads).await?);
        let (promised, report) = (Bitfield::new(0), Report::default());
        let mut lives = Self { disk, payloads, current: 0, leecher: None, promised, slow, fast, rng, report };
        lives.start_over()?;
        Ok(lives)
    }

    /// Goes on until there were so many power cuts.
    pub async fn until(mut self, cuts: u32) -> Result<Report> {
        while self.report.cuts < cuts {
            self.wait_for_the_moment().await?;
            let complete = self.leecher()?.said().complete;
            if !complete && self.rng.random_ratio(1, 5) {
                self.kill()?;
                continue;
            }
            self.cut().await?;
            if complete {
                self.start_over()?;
            }
        }
        self.leecher = None;
        self.slow.0.shutdown().await;
        self.fast.0.shutdown().await;
        Ok(self.report)
    }

    /// Half of the cuts come at any time, half of them while the disk is being written to: most of the time it is not.
    async fn wait_for_the_moment(&mut self) -> Result<()> {
        let pause = if self.rng.random_bool(0.5) {
            self.rng.random_range(0..600)
        } else {
            self.disk.wait_for_writes(BARRIER).await?;
            self.rng.random_range(0..15)
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok(())
    }

    /// Copies the disk while the leecher works, and looks at the copy; one life in four goes on from it.
    async fn cut(&mut self) -> Result<()> {
        let said = self.hear()?;
        self.disk.cut()?;
        self.report.cuts += 1;
        let root = self.disk.cut_root();
        let claims = self.check(&root)?;
        let count = claims.durable.count();
        self.report.partial += u32::from(count > 0 && !claims.durable.is_full());
        self.report.unproven += u32::from(claims.unproven > 0);
        self.start_after_the_cut(&root, &claims).await;
        self.disk.put_cut_away()?;
        if !said.complete && self.rng.random_ratio(1, 4) {
            self.leecher.take().context("there is a leecher")?.kill()?;
            self.disk.replace_by_kept()?;
            self.report.reboots += 1;
            self.start()?;
        }
        Ok(())
    }

    /// An engine on the copy must end with everything, and fetch nothing that was durable.
    async fn start_after_the_cut(&mut self, root: &Path, claims: &Claims) {
        let payload = &self.payloads.0[self.current];
        let missing = payload.metainfo.total_size() - claims.bytes(payload);
        match recover(payload, root, self.fast.1).await {
            Ok(recovery) => {
                self.report.checking.push(recovery.checking);
                let again = recovery.downloaded.saturating_sub(missing);
                self.report.fetched_again += again;
                if again > 0 {
                    self.find(&format!("{again} durable bytes fetched again"));
                }
            }
            Err(error) => self.find(&format!("{error:#}")),
        }
    }

    /// `kill -9`, a look at what it has left, and the next life.
    fn kill(&mut self) -> Result<()> {
        self.hear()?;
        self.leecher.take().context("there is a leecher")?.kill()?;
        self.report.kills += 1;
        self.check(&self.disk.root())?;
        self.start()
    }

    /// Whatever the leecher has said until now is a promise.
    fn hear(&mut self) -> Result<Said> {
        let said = self.leecher()?.said();
        ensure!(!said.ended, "the leecher has ended by itself");
        said.durable.iter().for_each(|piece| {
            self.promised.insert(piece);
        });
        Ok(said)
    }

    /// Compares what the disk mounted at `root` claims with what was promised, and with the bytes.
    fn check(&mut self, root: &Path) -> Result<Claims> {
        let payload = &self.payloads.0[self.current];
        let claims = Claims::read(payload, root)?;
        let (bad, lost) = (claims.bad(payload, root), claims.lost(&self.promised));
        self.report.compared += u64::from(claims.durable.count());
        self.report.bad += bad.len() as u64;
        self.report.lost += lost.len() as u64;
        if !bad.is_empty() {
            self.find(&format!("claimed durable but bad: {bad:?}"));
        }
        if !lost.is_empty() {
            self.find(&format!("durable lost: {lost:?}"));
        }
        Ok(claims)
    }

    fn find(&mut self, what: &str) {
        let (cut, kills) = (self.report.cuts, self.report.kills);
        let name = self.payloads.0[self.current].name;
        self.report
            .findings
            .push(format!("after cut {cut} and kill {kills} of a disk, torrent of {name}: {what}"));
    }

    /// Another download, on an empty disk.
    fn start_over(&mut self) -> Result<()> {
        self.leecher = None;
        self.disk.replace_by_empty()?;
        self.current = self.rng.random_range(0..self.payloads.0.len());
        self.promised = Bitfield::new(self.payloads.0[self.current].metainfo.pieces().count());
        self.slow.0.set_upload_limit(Some(self.rng.random_range(RATES)));
        self.start()
    }

    fn start(&mut self) -> Result<()> {
        let root: PathBuf = self.disk.root();
        self.leecher = Some(Leecher::start(&self.payloads.0[self.current], &root, self.slow.1)?);
        Ok(())
    }

    fn leecher(&self) -> Result<&Leecher> {
        self.leecher.as_ref().context("there is a leecher")
    }
}
