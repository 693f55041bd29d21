//! An HTTP origin for tests: on a capped link, with faults to switch, counting what it gives away.
//!
//! The server is a process of its own (`e2e-origin`) in a network namespace of the cluster; [`Origin`] is the handle of the test, which
//! talks to it over a Unix socket, since the capped link is busy with payload.

mod control;
pub mod server;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cluster::Namespace;
use crate::cluster::process::{Daemon, output, until};

pub use control::Request;

/// A file of the origin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Content {
    /// The first `size` bytes of stream `seed` (see [`crate::payload`]).
    Random {
        /// Which stream.
        seed: u64,
        /// How many bytes.
        size: u64,
    },
    /// These bytes.
    Bytes(Vec<u8>),
}

/// What is wrong with the origin; the default is nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Answer every request with this status and no payload.
    pub status: Option<u16>,
    /// Close the connection after this many payload bytes of a response.
    pub drop_after: Option<u64>,
    /// Claim a Content-Length that is off by this much.
    pub length_off_by: i64,
    /// Answer 200 with everything, whatever Range says.
    pub ignore_range: bool,
    /// Part of every ETag: changing it makes another version of the same bytes.
    pub etag: String,
    /// Send no ETag.
    pub no_etag: bool,
    /// Flip the byte at this offset of every file.
    pub wrong_byte_at: Option<u64>,
    /// Stop sending after this many payload bytes, and keep the connection.
    pub stall_after: Option<u64>,
    /// Answer 302 with this Location.
    pub redirect: Option<String>,
    /// Give each connection no more than so many bytes per second, as many servers do.
    pub connection_rate: Option<u64>,
}

/// What the origin has given away since its start or [`Origin::reset`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests of any kind.
    pub requests: u64,
    /// Bytes of response bodies, without headers, without what faults answered.
    pub payload_bytes: u64,
}

/// An origin server of a cluster.
#[derive(Debug)]
pub struct Origin {
    namespace: Namespace,
    address: Ipv4Addr,
    socket: PathBuf,
    log: PathBuf,
    process: Option<Daemon>,
}

impl Origin {
    /// Starts the server in `namespace`; files of its own lie in `dir`.
    pub async fn start(namespace: Namespace, address: Ipv4Addr, dir: &Path) -> Result<Self> {
        let socket = dir.join(format!("{}.sock", namespace.name));
        let log = dir.join("logs").join(format!("{}.log", namespace.name));
        let mut origin = Self { namespace, address, socket, log, process: None };
        origin.start_server().await?;
        Ok(origin)
    }

    /// The URL of a file.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{}", self.address, path.trim_start_matches('/'))
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Sets or replaces a file; the ETag changes with the content.
    pub async fn put(&self, path: &str, content: Content) -> Result<()> {
        self.tell(Request::Put { path: path.trim_start_matches('/').into(), content }).await
    }

    /// Puts `size` bytes of stream `seed` at `path`, and answers their SHA-256 in hexadecimal.
    pub async fn put_random(&self, path: &str, seed: u64, size: u64) -> Result<String> {
        self.put(path, Content::Random { seed, size }).await?;
        Ok(tokio::task::spawn_blocking(move || crate::payload::sha256(seed, size)).await?)
    }

    /// Removes a file: 404 from now on.
    pub async fn remove(&self, path: &str) -> Result<()> {
        self.tell(Request::Remove { path: path.trim_start_matches('/').into() }).await
    }

    /// Replaces all faults; `Faults::default()` heals. Responses under way see it too.
    pub async fn fault(&self, faults: Faults) -> Result<()> {
        self.tell(Request::Faults(faults)).await
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Daemon::pid)
    }

    /// What it has given away.
    pub async fn stats(&self) -> Result<Stats> {
        control::ask(&self.socket, &Request::Stats).await
    }

    /// Counts from zero again.
    pub async fn reset(&self) -> Result<()> {
        self.tell(Request::Reset).await
    }

    /// Limits the link, in bytes per second each way.
    pub async fn limit(&self, rate: Option<u64>) -> Result<()> {
        self.namespace.limit(rate, rate).await
    }

    /// Cuts the cable (`true`), or mends it.
    pub async fn cut_network(&self, cut: bool) -> Result<()> {
        self.namespace.cut(cut).await
    }

    /// Ends the server: connections are reset, new ones refused. Its files and counts are gone.
    pub fn stop_server(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts the server again, empty.
    pub async fn start_server(&mut self) -> Result<()> {
        let mut command = self.namespace.command(binary()?);
        command.args(["serve", "--listen", "0.0.0.0:80", "--control"]).arg(&self.socket);
        if self.socket.exists() {
            std::fs::remove_file(&self.socket)?;
        }
        self.process = Some(Daemon::spawn(command, &self.log)?);
        until("origin server", Duration::from_secs(10), || async { self.stats().await.map(Some) })
            .await
            .with_context(|| format!("see {}", self.log.display()))
            .map(drop)
    }

    /// Seconds that one plain GET of `path` takes, from the machine's own network: the bar for a distribution.
    pub async fn plain_get(&self, path: &str) -> Result<f64> {
        let mut command = Command::new(binary()?);
        command.args(["get", &self.url(path)]);
        let start = Instant::now();
        output(command, Duration::from_mins(10)).await?.ok("plain GET")?;
        Ok(start.elapsed().as_secs_f64())
    }

    async fn tell(&self, request: Request) -> Result<()> {
        control::ask(&self.socket, &request).await
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop_server();
    }
}

/// The server's program: cargo puts it one folder above the test programs.
pub fn binary() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("e2e-origin"))
        .find(|path| path.exists())
        .context("no program e2e-origin beside this one: cargo build -p e2e --bins")
}
