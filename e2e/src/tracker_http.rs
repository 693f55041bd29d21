//! A running tracker as its operator sees it: over HTTP, with the token.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use torrent::Metainfo;
use tracker_api::{PeerReport, REGISTRY_PATH, RegisteredSwarm, Registry, SWARMS_PATH, SwarmReport};

/// Where a tracker is, and the token to show.
#[derive(Clone, Copy, Debug)]
pub struct TrackerApi {
    /// Where it speaks HTTP.
    pub address: SocketAddr,
    /// What it was started with.
    pub token: &'static str,
}

impl TrackerApi {
    /// A request; answers the body.
    ///
    /// # Errors
    /// When nobody listens, or the answer is not 200.
    pub fn ask(self, method: &str, path: &str, body: &str) -> Result<String> {
        let TrackerApi { address, token } = self;
        let mut stream = TcpStream::connect(address)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(body.to_owned())
    }

    /// Registers one torrent and nothing else, under all its infohashes.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub fn register(self, metainfo: &Metainfo) -> Result<()> {
        let v1 = metainfo.info_hash_v1().map(|hash| hash.to_string());
        let v2 = metainfo.info_hash_v2().map(|hash| hash.to_string());
        let swarm = RegisteredSwarm {
            revisions: vec!["it".to_owned()],
            infohashes: v1.into_iter().chain(v2).collect(),
            manifest: None,
        };
        let registry = Registry { swarms: vec![swarm], ..Registry::default() };
        self.ask("PUT", REGISTRY_PATH, &serde_json::to_string(&registry)?).map(drop)
    }

    /// What it says of its only swarm.
    ///
    /// # Errors
    /// See [`Self::ask`]; and when it has none, or several.
    pub fn report(self) -> Result<SwarmReport> {
        let mut reports: Vec<SwarmReport> = serde_json::from_str(&self.ask("GET", SWARMS_PATH, "")?)?;
        ensure!(reports.len() == 1, "all names are of one swarm: {reports:?}");
        reports.pop().context("there is one")
    }

    /// Whether it knows a stranger at this address, and if wanted as one that has everything.
    ///
    /// # Errors
    /// See [`Self::report`].
    pub fn knows(self, address: IpAddr, complete: bool) -> Result<bool> {
        let there = |peer: &PeerReport| {
            let at: Option<SocketAddr> = peer.address.parse().ok();
            peer.node.is_none() && at.is_some_and(|at| at.ip() == address) && (peer.left == 0 || !complete)
        };
        Ok(self.report()?.peers.iter().any(there))
    }
}
