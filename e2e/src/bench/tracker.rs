//! A tracker of ours for the systems that can find each other in no other way.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::payload::Torrent;
use super::swarm::Place;
use crate::cluster::process::{Daemon, output};
use crate::cluster::until;

/// How long a tracker may take to serve, and a seed to announce.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tracker that is open to all; it ends with this.
pub(super) struct Tracker<'a> {
    place: Place<'a>,
    daemon: Daemon,
}

impl Drop for Tracker<'_> {
    fn drop(&mut self) {
        self.daemon.kill();
    }
}

impl<'a> Tracker<'a> {
    /// The announce URL of the one at an address.
    pub fn url(place: Place<'_>) -> String {
        format!("http://{}:6969/announce", place.address)
    }

    /// Starts it, and waits until it serves. It knows nobody.
    pub async fn start(program: &Path, place: Place<'a>, folder: &Path) -> Result<Self> {
        let mut command = place.host.command(program);
        command.args(["--public", "--listen", &format!("{}:6969", place.address)]);
        // All come from a few addresses, with both ids of each torrent.
        command.args(["--max-peers-per-address", "100000"]);
        let mut this = Self { place, daemon: Daemon::spawn(command, &folder.join("tracker.log"))? };
        this.until("the tracker", "healthz", "").await?;
        Ok(this)
    }

    /// Waits until it knows a peer that has all of the torrent: who comes before that waits for a whole interval.
    pub async fn until_seeded(&mut self, torrent: &Torrent) -> Result<()> {
        let mut path = "scrape?info_hash=".to_owned();
        for byte in torrent.id.0 {
            write!(path, "%{byte:02x}")?;
        }
        self.until("the seed at the tracker", &path, "8:completei1e").await
    }

    /// Asks for a path until the answer has `words` in it.
    async fn until(&mut self, what: &str, path: &str, words: &str) -> Result<()> {
        let url = format!("http://{}:6969/{path}", self.place.address);
        let (host, daemon) = (self.place.host, &mut self.daemon);
        until(what, PATIENCE, || {
            let state = daemon.check();
            let mut probe = host.command("curl");
            probe.args(["--silent", "--fail", &url]);
            async move {
                state?;
                let answer = output(probe, Duration::from_secs(5)).await?;
                Ok((answer.success && answer.stdout.contains(words)).then_some(()))
            }
        })
        .await
    }
}
