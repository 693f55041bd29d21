//! libtorrent, rTorrent, aria2, Transmission and qBittorrent find each other through our tracker, over HTTP and UDP, and nowhere else: no DHT,
//! no PEX, no LSD. The client of npm's bittorrent-tracker announces and scrapes.
//!
//! The tracker is a closed one: it serves the torrent because it was registered, hybrids under both infohashes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::clients::{Client, Job, Running, inside_namespace, is_installed, wait_for};
use e2e::payload::of_one_file;
use e2e::real::skip;
use e2e::tracker_http::TrackerApi;
use torrent::{Metainfo, Version};

/// The last parts of the addresses.
const TRACKER: u8 = 1;
const SEED: u8 = 2;
const LEECH: u8 = 3;
const TRACKER_PORT: u16 = 6969;
const TOKEN: &str = "tracker-clients";
const SIZE: usize = 5 * (1 << 20) + 3;
const JAVASCRIPT_CLIENT: &str = "bittorrent-tracker@10.0.12";

/// How the clients of a test reach the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http,
    Udp,
    UdpOverIpv6,
}

impl Way {
    fn address(self, last: u8) -> IpAddr {
        match self {
            Way::Http | Way::Udp => Ipv4Addr::new(10, 77, 0, last).into(),
            Way::UdpOverIpv6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()).into(),
        }
    }

    fn tracker(self) -> SocketAddr {
        SocketAddr::new(self.address(TRACKER), TRACKER_PORT)
    }

    fn api(self) -> TrackerApi {
        TrackerApi { address: self.tracker(), token: TOKEN }
    }

    fn url(self) -> String {
        let scheme = if self == Way::Http { "http" } else { "udp" };
        format!("{scheme}://{}/announce", self.tracker())
    }
}

/// Whether the tracker knows a client at this address, and if wanted as one that has everything.
fn announced(way: Way, last: u8, complete: bool) -> Result<bool> {
    way.api().knows(way.address(last), complete)
}

fn wait(way: Way, what: &str, running: &[&Running], until: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, running, until).with_context(|| format!("the tracker knows {:?}", way.api().report()))
}

/// Makes a torrent with our tracker in it, registers it, and writes the .torrent.
fn payload(way: Way, version: Version, file: &Path) -> Result<(Metainfo, Vec<u8>)> {
    let (metainfo, bytes) = of_one_file(version, 11, SIZE)?;
    way.api().register(&metainfo)?;
    let metainfo = metainfo.with_trackers(vec![vec![way.url()]]);
    std::fs::write(file, metainfo.encode())?;
    Ok((metainfo, bytes))
}

fn one_to_another(way: Way, seed: Client, leech: Client, python: &Path) -> Result<()> {
    let version = if leech.version() == Version::V1 { Version::V1 } else { seed.version() };
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("it.torrent");
    let (metainfo, bytes) = payload(way, version, &file)?;
    let folders: Vec<PathBuf> = ["seed", "leech"].map(|name| scratch.path().join(name)).to_vec();
    std::fs::create_dir_all(&folders[0])?;
    std::fs::write(folders[0].join(metainfo.name()), &bytes)?;
    let trackers = [way.url()];
    let start = |client: Client, last, folder: &Path| {
        let (address, own) = (way.address(last), folder.with_extension("own"));
        let (torrent, scratch) = (&*file, &*own);
        client.start(&Job { address, torrent, folder, scratch, python, trackers: &trackers, network: None })
    };

    let seeding = start(seed, SEED, &folders[0])?;
    wait(way, "the seed announces", &[&seeding], || announced(way, SEED, true))?;
    let leeching = start(leech, LEECH, &folders[1])?;
    let target = folders[1].join(metainfo.name());
    wait(way, "the download", &[&seeding, &leeching], || {
        Ok(std::fs::read(&target).ok().as_ref() == Some(&bytes))
    })?;
    // rTorrent keeps `completed` back until its next regular announce.
    let complete = leech != Client::Rtorrent;
    wait(way, "the leecher announces what it has", &[&leeching], || announced(way, LEECH, complete))
}

fn pair(test: &str, way: Way, seed: Client, leech: Client) -> Result<()> {
    let mut python = PathBuf::new();
    if [seed, leech].contains(&Client::Libtorrent) {
        let Some(found) = e2e::python::libtorrent(test, Path::new(env!("CARGO_TARGET_TMPDIR")))? else {
            return Ok(());
        };
        python = found;
    }
    let programs: Vec<&str> = [seed, leech].into_iter().filter_map(Client::program).collect();
    if !inside_namespace(test, &[TRACKER, SEED, LEECH].map(|last| way.address(last)), &programs)? {
        return Ok(());
    }
    beside_a_tracker(way, || one_to_another(way, seed, leech, &python))
        .with_context(|| format!("{seed:?} to {leech:?} over {way:?}"))
}

/// Does something while a closed tracker runs.
fn beside_a_tracker(way: Way, what: impl FnOnce() -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = tracker::CancellationToken::new();
    let http = runtime.block_on(tokio::net::TcpListener::bind(way.tracker()))?;
    let udp = Some(tracker::udp::Sockets::bind(way.tracker(), NonZeroU16::MIN)?);
    let config = tracker::Config { token: Some(tracker::Token::new(TOKEN)?), ..tracker::Config::default() };
    let (tracker, stopped) = (tracker::Tracker::new(config)?, stop.clone());
    let listeners = tracker::Listeners { http, udp };
    let serving = runtime.spawn(async move { tracker.serve(listeners, stopped).await });
    let result = what();
    stop.cancel();
    runtime.block_on(serving)?;
    result
}

/// Lets the client of npm's bittorrent-tracker announce, scrape and leave.
fn javascript_client(way: Way, modules: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (metainfo, _) = payload(way, Version::V1, &scratch.path().join("it.torrent"))?;
    let hash = metainfo.info_hash_v1().context("a v1 torrent")?.to_string();
    let output = Command::new("node")
        .args([
            "--input-type=module",
            "--eval",
            include_str!("../interop/tracker.js"),
            "--",
            &way.url(),
            &hash,
        ])
        .current_dir(modules)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let wanted = serde_json::json!({
        "peers": [], "announced": {"complete": 0, "incomplete": 1},
        "scraped": {"complete": 0, "incomplete": 1, "downloaded": 0},
    });
    ensure!(told == wanted, "{told}");
    ensure!(way.api().report()?.peers.is_empty(), "it has left: {:?}", way.api().report());
    Ok(())
}

fn javascript(test: &str, way: Way) -> Result<()> {
    if !["node", "npm"].into_iter().all(is_installed) {
        return skip(test, "node and npm are needed");
    }
    // Inside the namespace there is no network to install from, but then it is there.
    let modules = e2e::node::with_package(Path::new(env!("CARGO_TARGET_TMPDIR")), JAVASCRIPT_CLIENT)?;
    if !inside_namespace(test, &[way.address(TRACKER)], &["node"])? {
        return Ok(());
    }
    beside_a_tracker(way, || javascript_client(way, &modules)).with_context(|| format!("{way:?}"))
}

#[test]
fn libtorrent_finds_libtorrent() -> Result<()> {
    pair("libtorrent_finds_libtorrent", Way::Http, Client::Libtorrent, Client::Libtorrent)
}

#[test]
fn rtorrent_finds_libtorrent() -> Result<()> {
    pair("rtorrent_finds_libtorrent", Way::Http, Client::Libtorrent, Client::Rtorrent)
}

#[test]
fn libtorrent_finds_rtorrent() -> Result<()> {
    pair("libtorrent_finds_rtorrent", Way::Http, Client::Rtorrent, Client::Libtorrent)
}

#[test]
fn aria2_finds_transmission() -> Result<()> {
    pair("aria2_finds_transmission", Way::Http, Client::Transmission, Client::Aria2)
}

#[test]
fn transmission_finds_aria2() -> Result<()> {
    pair("transmission_finds_aria2", Way::Http, Client::Aria2, Client::Transmission)
}

#[test]
fn qbittorrent_finds_rtorrent() -> Result<()> {
    pair("qbittorrent_finds_rtorrent", Way::Http, Client::Rtorrent, Client::Qbittorrent)
}

#[test]
fn qbittorrent_finds_qbittorrent_over_udp_and_ipv6() -> Result<()> {
    let test = "qbittorrent_finds_qbittorrent_over_udp_and_ipv6";
    pair(test, Way::UdpOverIpv6, Client::Qbittorrent, Client::Qbittorrent)
}

#[test]
fn libtorrent_finds_libtorrent_over_udp_and_ipv6() -> Result<()> {
    let test = "libtorrent_finds_libtorrent_over_udp_and_ipv6";
    pair(test, Way::UdpOverIpv6, Client::Libtorrent, Client::Libtorrent)
}

#[test]
fn rtorrent_finds_libtorrent_over_udp() -> Result<()> {
    pair("rtorrent_finds_libtorrent_over_udp", Way::Udp, Client::Libtorrent, Client::Rtorrent)
}

#[test]
fn transmission_finds_rtorrent_over_udp() -> Result<()> {
    pair("transmission_finds_rtorrent_over_udp", Way::Udp, Client::Rtorrent, Client::Transmission)
}

#[test]
fn libtorrent_finds_aria2_over_udp() -> Result<()> {
    pair("libtorrent_finds_aria2_over_udp", Way::Udp, Client::Aria2, Client::Libtorrent)
}

#[test]
fn aria2_finds_transmission_over_udp() -> Result<()> {
    pair("aria2_finds_transmission_over_udp", Way::Udp, Client::Transmission, Client::Aria2)
}

#[test]
fn the_javascript_client_announces_and_scrapes_over_http() -> Result<()> {
    javascript("the_javascript_client_announces_and_scrapes_over_http", Way::Http)
}

#[test]
fn the_javascript_client_announces_and_scrapes_over_udp() -> Result<()> {
    javascript("the_javascript_client_announces_and_scrapes_over_udp", Way::Udp)
}
