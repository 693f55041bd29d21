//! libtorrent, rTorrent, aria2, Transmission and qBittorrent find each other through two `samara-tracker` that are in step, and through one of
//! them when the other has been killed. Nowhere else: no DHT, no PEX, no LSD.
//!
//! The seed's torrent names only the first tracker, that of the client which finds it only the second: what one knows of the other
//! comes from replication. Then the first is killed, and a client comes whose torrent names both, each in a tier of its own (BEP 12).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::clients::{Client, Job, Running, inside_namespace, wait_for};
use e2e::payload::of_one_file;
use e2e::samara;
use e2e::tracker_http::TrackerApi;
use torrent::{Metainfo, Version};

/// The last parts of the addresses: the tracker that is killed, the one that stays, and the clients.
const FIRST: u8 = 1;
const SECOND: u8 = 2;
const SEED: u8 = 3;
const LEECH: u8 = 4;
const LATECOMER: u8 = 5;
const TRACKER_PORT: u16 = 6969;
const TOKEN: &str = "the-token-of-both-replicas";
const SIZE: usize = 3 * (1 << 20) + 5;

/// How the clients of a test reach the trackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http,
    Udp,
    HttpOverIpv6,
    UdpOverIpv6,
}

impl Way {
    fn address(self, last: u8) -> IpAddr {
        match self {
            Way::Http | Way::Udp => Ipv4Addr::new(10, 77, 0, last).into(),
            Way::HttpOverIpv6 | Way::UdpOverIpv6 => {
                Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()).into()
            }
        }
    }

    fn tracker(self, last: u8) -> SocketAddr {
        SocketAddr::new(self.address(last), TRACKER_PORT)
    }

    fn url(self, last: u8) -> String {
        let scheme = if matches!(self, Way::Udp | Way::UdpOverIpv6) { "udp" } else { "http" };
        format!("{scheme}://{}/announce", self.tracker(last))
    }
}

/// What the clients of a test share.
struct Scene {
    way: Way,
    scratch: tempfile::TempDir,
    python: PathBuf,
    metainfo: Metainfo,
    bytes: Vec<u8>,
}

impl Scene {
    fn api(&self, tracker: u8) -> TrackerApi {
        TrackerApi { address: self.way.tracker(tracker), token: TOKEN }
    }

    /// Starts a tracker whose sibling is the other one.
    fn tracker(&self, own: u8, sibling: u8) -> Result<Running> {
        let token = self.scratch.path().join("token");
        std::fs::write(&token, TOKEN)?;
        let mut command = Command::new(samara::tracker()?);
        command
            .env_clear()
            .args(["--listen", &self.way.tracker(own).to_string(), "--token-file"])
            .arg(token)
            .args(["--sibling", &format!("http://{}", self.way.tracker(sibling))]);
        Running::start(&mut command, self.scratch.path().join(format!("tracker-{own}")))
    }

    /// Registers the torrent as the operator does: with each tracker.
    fn register(&self, tracker: u8, running: &Running) -> Result<()> {
        let api = self.api(tracker);
        wait_for("the tracker listens", &[running], || Ok(api.ask("GET", "/healthz", "").is_ok()))?;
        api.register(&self.metainfo)
    }

    /// Starts a client at an address, with these trackers in its torrent.
    fn client(&self, client: Client, last: u8, trackers: &[u8]) -> Result<Running> {
        let urls: Vec<String> = trackers.iter().map(|&tracker| self.way.url(tracker)).collect();
        let metainfo =
            self.metainfo.clone().with_trackers(urls.iter().map(|url| vec![url.clone()]).collect());
        let torrent = self.scratch.path().join(format!("{last}.torrent"));
        std::fs::write(&torrent, metainfo.encode())?;
        client.start(&Job {
            address: self.way.address(last),
            torrent: &torrent,
            folder: &self.folder(last),
            scratch: &self.scratch.path().join(format!("{last}.own")),
            python: &self.python,
            trackers: &urls,
            network: None,
        })
    }

    fn folder(&self, last: u8) -> PathBuf {
        self.scratch.path().join(last.to_string())
    }

    /// Waits until the client at an address has everything.
    fn downloads(&self, last: u8, running: &[&Running]) -> Result<()> {
        let target = self.folder(last).join(self.metainfo.name());
        self.until(&format!("the download of {last}"), running, || {
            Ok(std::fs::read(&target).ok().as_ref() == Some(&self.bytes))
        })
    }

    fn until(&self, what: &str, running: &[&Running], so: impl FnMut() -> Result<bool>) -> Result<()> {
        wait_for(what, running, so)
            .with_context(|| format!("the second tracker knows {:?}", self.api(SECOND).report()))
    }
}

/// Who takes part in a test.
#[derive(Clone, Copy, Debug)]
struct Cast {
    seed: Client,
    leech: Client,
    latecomer: Client,
}

impl Cast {
    fn all(self) -> [Client; 3] {
        [self.seed, self.leech, self.latecomer]
    }
}

fn play(scene: &Scene, cast: Cast) -> Result<()> {
    let mut first = scene.tracker(FIRST, SECOND)?;
    let second = scene.tracker(SECOND, FIRST)?;
    scene.register(FIRST, &first)?;
    scene.register(SECOND, &second)?;

    let place = scene.folder(SEED);
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join(scene.metainfo.name()), &scene.bytes)?;
    let seed = scene.client(cast.seed, SEED, &[FIRST])?;
    scene.until("the second tracker hears of the seed", &[&first, &second, &seed], || {
        scene.api(SECOND).knows(scene.way.address(SEED), true)
    })?;
    let leech = scene.client(cast.leech, LEECH, &[SECOND])?;
    scene.downloads(LEECH, &[&second, &seed, &leech])?;
    ensure!(
        scene.api(FIRST).knows(scene.way.address(LEECH), false)?,
        "the first tracker has heard of the leecher"
    );

    first.child.kill()?;
    first.child.wait()?;
    ensure!(scene.api(FIRST).report().is_err(), "the first tracker is dead");
    let latecomer = scene.client(cast.latecomer, LATECOMER, &[FIRST, SECOND])?;
    scene.downloads(LATECOMER, &[&second, &seed, &leech, &latecomer])?;
    ensure!(
        scene.api(SECOND).knows(scene.way.address(LATECOMER), false)?,
        "it came through the second tracker"
    );
    Ok(())
}

fn replicas(test: &str, way: Way, seed: Client, leech: Client, latecomer: Client) -> Result<()> {
    let cast = Cast { seed, leech, latecomer };
    let mut python = PathBuf::new();
    if cast.all().contains(&Client::Libtorrent) {
        let Some(found) = e2e::python::libtorrent(test, Path::new(env!("CARGO_TARGET_TMPDIR")))? else {
            return Ok(());
        };
        python = found;
    }
    // Inside the namespace there is no network to build with, but then it is there.
    samara::tracker()?;
    let programs: Vec<&str> = cast.all().into_iter().filter_map(Client::program).collect();
    let addresses = [FIRST, SECOND, SEED, LEECH, LATECOMER].map(|last| way.address(last));
    if !inside_namespace(test, &addresses, &programs)? {
        return Ok(());
    }
    let all_read = |version| cast.all().iter().all(|client| client.version() == version);
    let version = if all_read(Version::Hybrid) { Version::Hybrid } else { Version::V1 };
    let (metainfo, bytes) = of_one_file(version, 17, SIZE)?;
    let scene = Scene { way, scratch: tempfile::tempdir()?, python, metainfo, bytes };
    play(&scene, cast).with_context(|| format!("{cast:?} over {way:?}"))
}

#[test]
fn rtorrent_finds_libtorrent_through_a_sibling_and_transmission_finds_them_when_one_is_killed() -> Result<()>
{
    let test = "rtorrent_finds_libtorrent_through_a_sibling_and_transmission_finds_them_when_one_is_killed";
    replicas(test, Way::Http, Client::Libtorrent, Client::Rtorrent, Client::Transmission)
}

#[test]
fn aria2_finds_libtorrent_through_a_sibling_and_rtorrent_finds_them_when_one_is_killed() -> Result<()> {
    let test = "aria2_finds_libtorrent_through_a_sibling_and_rtorrent_finds_them_when_one_is_killed";
    replicas(test, Way::Http, Client::Libtorrent, Client::Aria2, Client::Rtorrent)
}

#[test]
fn qbittorrent_finds_rtorrent_through_a_sibling_and_aria2_finds_them_when_one_is_killed() -> Result<()> {
    let test = "qbittorrent_finds_rtorrent_through_a_sibling_and_aria2_finds_them_when_one_is_killed";
    replicas(test, Way::Http, Client::Rtorrent, Client::Qbittorrent, Client::Aria2)
}

#[test]
fn libtorrent_finds_libtorrent_through_a_sibling_and_when_one_is_killed_over_ipv6() -> Result<()> {
    let test = "libtorrent_finds_libtorrent_through_a_sibling_and_when_one_is_killed_over_ipv6";
    replicas(test, Way::HttpOverIpv6, Client::Libtorrent, Client::Libtorrent, Client::Libtorrent)
}

#[test]
fn rtorrent_finds_aria2_through_a_sibling_and_libtorrent_finds_them_when_one_is_killed_over_udp() -> Result<()>
{
    let test = "rtorrent_finds_aria2_through_a_sibling_and_libtorrent_finds_them_when_one_is_killed_over_udp";
    replicas(test, Way::Udp, Client::Aria2, Client::Rtorrent, Client::Libtorrent)
}

#[test]
fn libtorrent_finds_libtorrent_through_a_sibling_and_qbittorrent_finds_them_when_one_is_killed_over_udp_and_ipv6()
-> Result<()> {
    let test = "libtorrent_finds_libtorrent_through_a_sibling_and_qbittorrent_finds_them_when_one_is_killed_over_udp_and_ipv6";
    replicas(test, Way::UdpOverIpv6, Client::Libtorrent, Client::Libtorrent, Client::Qbittorrent)
}
