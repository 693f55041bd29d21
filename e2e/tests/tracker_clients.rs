//! libtorrent, rTorrent, aria2 and Transmission find each other through our tracker, and nowhere else: no DHT, no PEX, no LSD.
//!
//! The tracker is a closed one: it serves the torrent because it was registered, hybrids under both infohashes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::clients::{Client, Job, Running, inside_namespace, wait_for};
use e2e::payload::of_one_file;
use torrent::{Metainfo, Version};
use tracker_api::{PeerReport, REGISTRY_PATH, RegisteredSwarm, Registry, SWARMS_PATH, SwarmReport};

const TRACKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 6969);
const SEED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const LEECH: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const TOKEN: &str = "tracker-clients";
const SIZE: usize = 5 * (1 << 20) + 3;

/// A request to the tracker's API; answers the body.
fn ask(method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(TRACKER)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(body.to_owned())
}

fn report() -> Result<SwarmReport> {
    let mut reports: Vec<SwarmReport> = serde_json::from_str(&ask("GET", SWARMS_PATH, "")?)?;
    ensure!(reports.len() == 1, "both names are one swarm: {reports:?}");
    reports.pop().context("there is one")
}

/// Whether the tracker knows a stranger at this address, and if wanted as one that has everything.
fn announced(address: Ipv4Addr, complete: bool) -> Result<bool> {
    let there = |peer: &PeerReport| {
        let at: Option<SocketAddrV4> = peer.address.parse().ok();
        peer.node.is_none() && at.is_some_and(|at| *at.ip() == address) && (peer.left == 0 || !complete)
    };
    Ok(report()?.peers.iter().any(there))
}

fn wait(what: &str, running: &[&Running], until: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, running, until).with_context(|| format!("the tracker knows {:?}", report()))
}

/// Makes a torrent with our tracker in it, registers it, and writes the .torrent.
fn payload(version: Version, file: &Path) -> Result<(Metainfo, Vec<u8>)> {
    let (metainfo, bytes) = of_one_file(version, 11, SIZE)?;
    let v1 = metainfo.info_hash_v1().map(|hash| hash.to_string());
    let v2 = metainfo.info_hash_v2().map(|hash| hash.to_string());
    let swarm = RegisteredSwarm {
        revisions: vec!["it".to_owned()],
        infohashes: v1.into_iter().chain(v2).collect(),
        manifest: None,
    };
    let registry = Registry { swarms: vec![swarm], ..Registry::default() };
    ask("PUT", REGISTRY_PATH, &serde_json::to_string(&registry)?)?;
    let metainfo = metainfo.with_trackers(vec![vec![url()]]);
    std::fs::write(file, metainfo.encode())?;
    Ok((metainfo, bytes))
}

fn url() -> String {
    format!("http://{TRACKER}/announce")
}

fn one_to_another(seed: Client, leech: Client, python: &Path) -> Result<()> {
    let version = if leech.version() == Version::V1 { Version::V1 } else { seed.version() };
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("it.torrent");
    let (metainfo, bytes) = payload(version, &file)?;
    let folders: Vec<PathBuf> = ["seed", "leech"].map(|name| scratch.path().join(name)).to_vec();
    std::fs::create_dir_all(&folders[0])?;
    std::fs::write(folders[0].join(metainfo.name()), &bytes)?;
    let trackers = [url()];
    let start = |client: Client, address, folder: &Path| {
        let own = folder.with_extension("own");
        let (torrent, scratch) = (&*file, &*own);
        client.start(&Job { address, torrent, folder, scratch, python, trackers: &trackers, network: None })
    };

    let seeding = start(seed, SEED, &folders[0])?;
    wait("the seed announces", &[&seeding], || announced(SEED, true))?;
    let leeching = start(leech, LEECH, &folders[1])?;
    let target = folders[1].join(metainfo.name());
    wait(
        "the download",
        &[&seeding, &leeching],
        || Ok(std::fs::read(&target).ok().as_ref() == Some(&bytes)),
    )?;
    // rTorrent keeps `completed` back until its next regular announce.
    let complete = leech != Client::Rtorrent;
    wait("the leecher announces what it has", &[&leeching], || announced(LEECH, complete))
}

fn pair(test: &str, seed: Client, leech: Client) -> Result<()> {
    let mut python = PathBuf::new();
    if [seed, leech].contains(&Client::Libtorrent) {
        let Some(found) = e2e::python::libtorrent(test, Path::new(env!("CARGO_TARGET_TMPDIR")))? else {
            return Ok(());
        };
        python = found;
    }
    let programs: Vec<&str> = [seed, leech].into_iter().filter_map(Client::program).collect();
    if !inside_namespace(test, &[*TRACKER.ip(), SEED, LEECH], &programs)? {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = tracker::CancellationToken::new();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(TRACKER))?;
    let config = tracker::Config { token: Some(tracker::Token::new(TOKEN)?), ..tracker::Config::default() };
    let (tracker, stopped) = (tracker::Tracker::new(config)?, stop.clone());
    let serving = runtime.spawn(async move { tracker.serve(listener, stopped).await });
    let result = one_to_another(seed, leech, &python).with_context(|| format!("{seed:?} to {leech:?}"));
    stop.cancel();
    runtime.block_on(serving)?;
    result
}

#[test]
fn libtorrent_finds_libtorrent() -> Result<()> {
    pair("libtorrent_finds_libtorrent", Client::Libtorrent, Client::Libtorrent)
}

#[test]
fn rtorrent_finds_libtorrent() -> Result<()> {
    pair("rtorrent_finds_libtorrent", Client::Libtorrent, Client::Rtorrent)
}

#[test]
fn libtorrent_finds_rtorrent() -> Result<()> {
    pair("libtorrent_finds_rtorrent", Client::Rtorrent, Client::Libtorrent)
}

#[test]
fn aria2_finds_transmission() -> Result<()> {
    pair("aria2_finds_transmission", Client::Transmission, Client::Aria2)
}

#[test]
fn transmission_finds_aria2() -> Result<()> {
    pair("transmission_finds_aria2", Client::Aria2, Client::Transmission)
}
