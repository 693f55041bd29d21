//! rTorrent, aria2 and Transmission download from our engine and upload to it.
//!
//! Each client gets an address of its own in a network namespace (Transmission never dials 127/8): the test starts itself
//! again below `unshare --net`. Hybrids for rTorrent; aria2 1.36 and Transmission 3.00 cannot read them and get v1.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use swarm::{AddTorrent, Assume, Engine, EngineConfig};
use torrent::{Builder, Metainfo, RelPath, Version};

const PATIENCE: Duration = Duration::from_secs(90);
const SIZE: usize = 12 * (1 << 20) + 3;
/// Set in the process that runs inside the namespace.
const INSIDE: &str = "SAMARA_TEST_INSIDE";
const OURS: [u8; 4] = [10, 77, 0, 1];
const THEIRS: &str = "10.77.0.2";
const PORT: u16 = 6885;

/// A client that is run as a process.
struct Client {
    name: &'static str,
    version: Version,
    /// Starts it with the torrent and the folder to keep files in; the scratch folder is its own.
    start: fn(&Path, &Path, &Path) -> Result<Child>,
}

const CLIENTS: [Client; 3] = [
    Client { name: "rtorrent", version: Version::Hybrid, start: rtorrent },
    Client { name: "aria2c", version: Version::V1, start: aria2 },
    Client { name: "transmission-daemon", version: Version::V1, start: transmission },
];

fn quiet(command: &mut Command, scratch: &Path) -> Result<Child> {
    let log = std::fs::File::create(scratch.join("log"))?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("{command:?} does not start"))
}

fn rtorrent(torrent: &Path, folder: &Path, scratch: &Path) -> Result<Child> {
    let session = scratch.join("session");
    std::fs::create_dir(&session)?;
    let rc = scratch.join("rc");
    let settings = format!(
        "system.daemon.set = true\nnetwork.bind_address.set = {THEIRS}\nnetwork.port_range.set = {PORT}-{PORT}\n\
         network.port_random.set = no\ndht.mode.set = disable\nprotocol.pex.set = no\ntrackers.use_udp.set = no\n\
         directory.default.set = {}\nsession.path.set = {}\nschedule2 = load,1,0,\"load.start={}\"\n",
        folder.display(),
        session.display(),
        torrent.display()
    );
    std::fs::write(&rc, settings)?;
    quiet(Command::new("rtorrent").arg("-n").arg("-o").arg(format!("import={}", rc.display())), scratch)
}

fn aria2(torrent: &Path, folder: &Path, scratch: &Path) -> Result<Child> {
    let port = PORT.to_string();
    quiet(
        Command::new("aria2c")
            .args([
                "--interface",
                THEIRS,
                "--listen-port",
                &port,
                "--enable-dht=false",
                "--enable-dht6=false",
            ])
            .args(["--bt-enable-lpd=false", "--enable-peer-exchange=false", "--file-allocation=none"])
            .args(["--check-integrity=true", "--seed-ratio=0.0", "--no-conf", "--dir"])
            .arg(folder)
            .arg(torrent),
        scratch,
    )
}

fn transmission(torrent: &Path, folder: &Path, scratch: &Path) -> Result<Child> {
    let (config, watch) = (scratch.join("config"), scratch.join("watch"));
    std::fs::create_dir(&config)?;
    std::fs::create_dir(&watch)?;
    std::fs::copy(torrent, watch.join("it.torrent"))?;
    let settings = serde_json::json!({
        "bind-address-ipv4": THEIRS, "peer-port": PORT, "rpc-enabled": false, "dht-enabled": false, "lpd-enabled": false,
        "pex-enabled": false, "utp-enabled": false, "port-forwarding-enabled": false, "encryption": 0,
    });
    std::fs::write(config.join("settings.json"), settings.to_string())?;
    let mut command = Command::new("transmission-daemon");
    command.arg("-f").arg("-g").arg(&config).arg("-w").arg(folder).arg("-c").arg(&watch);
    quiet(&mut command, scratch)
}

/// A torrent of one file and its bytes.
fn payload(version: Version) -> Result<(Arc<Metainfo>, Vec<u8>)> {
    let mut bytes = vec![0; SIZE];
    e2e::payload::fill(9, 0, &mut bytes);
    let builder = Builder::new(version, 1 << 18)?;
    let mut hasher = builder.file_hasher(1);
    hasher.update(&bytes);
    let metainfo = builder.build(vec![(RelPath::parse("data")?, hasher.finish())])?;
    Ok((Arc::new(metainfo), bytes))
}

/// Ends a client however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _gone = self.0.kill().and_then(|()| self.0.wait()).is_ok();
    }
}

async fn run(client: &Client, uploads: bool) -> Result<()> {
    let (metainfo, bytes) = payload(client.version)?;
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("it.torrent");
    // rTorrent refuses a torrent without a tracker. Nobody listens there: we dial.
    let tracker = format!("http://{THEIRS}:1/announce");
    std::fs::write(&file, Metainfo::clone(&metainfo).with_trackers(vec![vec![tracker]]).encode())?;
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    std::fs::create_dir_all(&ours)?;
    std::fs::create_dir_all(&theirs)?;
    std::fs::write(if uploads { &theirs } else { &ours }.join(metainfo.name()), &bytes)?;
    let _client = Running((client.start)(&file, &theirs, scratch.path())?);

    let listen = vec![SocketAddr::from((OURS, 6881))];
    let engine = Engine::start(EngineConfig { listen, ..EngineConfig::default() }).await?;
    let layout = vec![RelPath::parse(metainfo.name())?];
    let assume = if uploads { Assume::Journal } else { Assume::Complete };
    let peers = vec![SocketAddr::new(THEIRS.parse()?, PORT)];
    let spec = AddTorrent {
        metainfo: metainfo.clone(),
        folder: ours.clone(),
        layout,
        journal: None,
        trackers: vec![],
        assume,
        peers,
    };
    let handle = engine.add(spec).await?;
    let target = if uploads { ours } else { theirs }.join(metainfo.name());
    let started = Instant::now();
    while std::fs::read(&target).ok().as_ref() != Some(&bytes) {
        let log = || std::fs::read_to_string(scratch.path().join("log")).unwrap_or_default();
        ensure!(started.elapsed() < PATIENCE, "not complete: {:?}\n{}", handle.stats(), log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(handle.stats().wasted == 0, "{:?}", handle.stats());
    engine.shutdown().await;
    Ok(())
}

/// Runs the named test of this binary again inside a network namespace with two addresses; `None` if this is that run.
fn outside(test: &str) -> Result<Option<bool>> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(None);
    }
    let missing: Vec<&str> = CLIENTS
        .iter()
        .map(|client| client.name)
        .chain(["unshare", "ip"])
        .filter(|name| !found(name))
        .collect();
    if !missing.is_empty() || !rustix::process::geteuid().is_root() {
        e2e::real::skip(test, &format!("root, unshare, ip and these clients are needed: {missing:?}"))?;
        return Ok(Some(true));
    }
    let script = "ip link set lo up && ip addr add 10.77.0.1/24 dev lo && ip addr add 10.77.0.2/24 dev lo && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe()?)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()?;
    Ok(Some(status.success()))
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).any(|path: PathBuf| path.is_file())
}

fn both_ways(test: &str, client: &Client) -> Result<()> {
    if let Some(passed) = outside(test)? {
        ensure!(passed, "the run inside the namespace failed");
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    for uploads in [true, false] {
        let what = if uploads { "uploading to us" } else { "downloading from us" };
        runtime.block_on(run(client, uploads)).with_context(|| format!("{} {what}", client.name))?;
    }
    Ok(())
}

#[test]
fn rtorrent_goes_both_ways_with_a_hybrid() -> Result<()> {
    both_ways("rtorrent_goes_both_ways_with_a_hybrid", &CLIENTS[0])
}

#[test]
fn aria2_goes_both_ways_with_v1() -> Result<()> {
    both_ways("aria2_goes_both_ways_with_v1", &CLIENTS[1])
}

#[test]
fn transmission_goes_both_ways_with_v1() -> Result<()> {
    both_ways("transmission_goes_both_ways_with_v1", &CLIENTS[2])
}
