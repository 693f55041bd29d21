//! What `samara seed` and `samara get` have in common.

mod exit;
mod lookup;
mod problems;
mod report;
mod resolve;
mod select;
mod sharing;
mod web_seeds;
mod written;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use swarm::{Engine, EngineConfig, TrackerSpec};
use torrent::{Magnet, Metainfo};

pub use exit::{End, Signals, settle};
pub use lookup::{LookedUp, look_up};
pub use report::{Report, torrent_event};
pub use resolve::{Remote, Resolved, plainly, resolve};
pub use select::SelectArgs;
pub use sharing::Sharing;
pub use web_seeds::WebSeedArgs;
pub use written::Written;

use crate::torrent_command::magnet;
use crate::units::parse_bytes;

/// Whom to talk to, and how much.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Announce URL (http, https or udp), besides those of the .torrent; may be given several times
    ///
    /// Machines that `get` the same file of a web server find each other there: give the same to all of them. It has to serve any
    /// torrent, as `samara tracker --public` does. With neither this nor --peer a machine reads the file alone.
    #[arg(short, long, value_name = "URL")]
    pub tracker: Vec<String>,
    /// A peer that is known without a tracker; may be given several times
    #[arg(long, value_name = "IP:PORT")]
    pub peer: Vec<SocketAddr>,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind: IpAddr,
    /// Bytes per second to all peers together
    #[arg(long, value_name = "BYTES", value_parser = parse_limit)]
    upload_limit: Option<u64>,
    /// Connections of one torrent
    #[arg(long, value_name = "N", default_value_t = EngineConfig::default().max_peers,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=MAX_PEERS))]
    max_peers: usize,
}

/// More connections than that are more open files than most systems allow a process.
const MAX_PEERS: u64 = 10_000;

/// Reads bytes per second. Without the option there is no limit, and a limit of nothing would move nothing.
pub fn parse_limit(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("a limit of 0 would move nothing: leave the option out for no limit".to_owned()),
        limit => Ok(limit),
    }
}

impl NetworkArgs {
    /// An engine's settings, without a limit to what comes in.
    pub fn config(&self, port: u16) -> EngineConfig {
        EngineConfig {
            listen: vec![SocketAddr::new(self.bind, port)],
            upload_limit: self.upload_limit,
            max_peers: self.max_peers,
            ..EngineConfig::default()
        }
    }

    /// The trackers of a torrent's tiers and those of the command line, each once.
    pub fn trackers(&self, tiers: &[Vec<String>]) -> Vec<TrackerSpec> {
        let all = tiers.iter().flatten().chain(&self.tracker);
        let mut seen = HashSet::new();
        all.filter(|url| seen.insert(*url))
            .map(|url| TrackerSpec { url: url.clone(), bearer: None, node: None })
            .collect()
    }
}

/// The magnet link, with ourselves in it where others can connect: a wildcard says nothing about that.
pub fn link(metainfo: &Metainfo, engine: &Engine) -> Magnet {
    let certain = engine.addresses().iter().filter(|address| !address.ip().is_unspecified());
    Magnet { peers: certain.map(ToString::to_string).collect(), ..magnet::of(metainfo) }
}
