//! From a magnet link to the torrent.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use swarm::{Engine, FindTorrent};
use torrent::{Limits, Magnet, Metainfo};

use super::{End, NetworkArgs, Report};
use crate::output;

/// How often it is said how it goes.
const LOOK: Duration = Duration::from_millis(500);

/// What was behind a link.
pub struct LookedUp {
    /// The torrent.
    pub metainfo: Metainfo,
    /// Peers that the user or the link has named.
    pub named: Vec<SocketAddr>,
    /// Peers that are worth a try.
    pub found: Vec<SocketAddr>,
}

/// Asks peers for the torrent behind a link, until one has it.
pub async fn look_up(
    link: &Magnet,
    network: &NetworkArgs,
    engine: &Engine,
    report: &mut Report,
) -> Result<LookedUp> {
    let tiers: Vec<Vec<String>> = link.trackers.iter().map(|url| vec![url.clone()]).collect();
    let trackers = network.trackers(&tiers);
    let named = [network.peer.clone(), addresses(link).await].concat();
    if trackers.is_empty() && named.is_empty() {
        let why = "the link names no tracker and no peer: name one with --tracker or --peer";
        return Err(End::Usage(why.to_owned()).into());
    }
    let what = FindTorrent { wanted: link.into(), limits: Limits::OWN, trackers, peers: named.clone() };
    let lookup = engine.find(what)?;
    let shown = report.lookup(link);
    let mut found = std::pin::pin!(lookup.found());
    let mut ticks = tokio::time::interval(LOOK);
    let found = loop {
        tokio::select! {
            found = &mut found => break found?,
            _ = ticks.tick() => report.show_lookup(&shown, link, &lookup.status())?,
        }
    };
    shown.finish();
    let web_seeds = link.web_seeds.clone();
    let metainfo = found.metainfo.with_trackers(tiers).with_web_seeds(web_seeds);
    Ok(LookedUp { metainfo, named, found: found.peers })
}

/// `x.pe`, by addresses and by names.
async fn addresses(link: &Magnet) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for peer in &link.peers {
        match tokio::net::lookup_host(peer).await {
            Ok(found) => addresses.extend(found),
            Err(error) => output::say(&format!("cannot look up the peer {peer} of the link: {error}")),
        }
    }
    addresses
}
