//! Other people's BitTorrent clients as processes, each on an address of its own in a network namespace.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use torrent::Version;

use crate::cluster::Namespace;
use crate::real::skip;

/// Set in the process that runs inside a namespace.
const INSIDE: &str = "SAMARA_TEST_INSIDE";
/// What takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where every client listens, on its own address.
pub const PORT: u16 = 6885;

/// A client of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// libtorrent 2.1.1 by its Python binding.
    Libtorrent,
    /// rTorrent.
    Rtorrent,
    /// aria2.
    Aria2,
    /// transmission-daemon.
    Transmission,
    /// qbittorrent-nox.
    Qbittorrent,
}

/// What a client is to do.
pub struct Job<'a> {
    /// On which address.
    pub address: IpAddr,
    /// The .torrent, with its trackers.
    pub torrent: &'a Path,
    /// Where the payload is or will be.
    pub folder: &'a Path,
    /// An empty folder for what the client keeps to itself.
    pub scratch: &'a Path,
    /// The Python that has libtorrent; only [`Client::Libtorrent`] needs it.
    pub python: &'a Path,
    /// The trackers in the torrent, each a tier of its own, for the client that wants to hear of them apart from it.
    pub trackers: &'a [String],
    /// The network to be in, if it is another than that of the test.
    pub network: Option<&'a Namespace>,
}

impl Job<'_> {
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.network.map_or_else(|| Command::new(&program), |network| network.command(&program))
    }
}

/// A program that runs, and ends with this. What it says goes to a file.
pub struct Running {
    /// The process.
    pub child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = std::fs::File::create(&log)?;
        let child = command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self { child: child.with_context(|| format!("{command:?} does not start"))?, log })
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _gone = self.child.kill().and_then(|()| self.child.wait()).is_ok();
    }
}

/// Waits until something is so; with what the programs have said if it takes too long.
pub fn wait_for(what: &str, running: &[&Running], mut until: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !until()? {
        let logs: Vec<String> = running.iter().map(|one| one.log()).collect();
        ensure!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}\n{}", logs.join("\n---\n"));
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

impl Client {
    /// The program to look for; none for libtorrent, which [`crate::python::libtorrent`] finds.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Client::Libtorrent => None,
            Client::Rtorrent => Some("rtorrent"),
            Client::Aria2 => Some("aria2c"),
            Client::Transmission => Some("transmission-daemon"),
            Client::Qbittorrent => Some("qbittorrent-nox"),
        }
    }

    /// What it can read of what we make: aria2 1.36 and Transmission 3.00 know no hybrids.
    pub fn version(self) -> Version {
        match self {
            Client::Libtorrent | Client::Rtorrent | Client::Qbittorrent => Version::Hybrid,
            Client::Aria2 | Client::Transmission => Version::V1,
        }
    }

    /// Starts it.
    pub fn start(self, job: &Job<'_>) -> Result<Running> {
        std::fs::create_dir_all(job.folder)?;
        std::fs::create_dir_all(job.scratch)?;
        let mut command = match self {
            Client::Libtorrent => libtorrent(job),
            Client::Rtorrent => rtorrent(job)?,
            Client::Aria2 => aria2(job),
            Client::Transmission => transmission(job)?,
            Client::Qbittorrent => qbittorrent(job)?,
        };
        Running::start(&mut command, job.scratch.join("log"))
    }
}

fn libtorrent(job: &Job<'_>) -> Command {
    let what = serde_json::json!({
        "listen": job.address, "torrent": job.torrent, "folder": job.folder, "peers": [], "trackers": job.trackers,
    });
    let mut command = job.command(job.python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/peer.py")).arg(what.to_string());
    command
}

fn rtorrent(job: &Job<'_>) -> Result<Command> {
    let session = job.scratch.join("session");
    std::fs::create_dir(&session)?;
    let rc = job.scratch.join("rc");
    let settings = format!(
        "system.daemon.set = true\nnetwork.bind_address.set = {}\nnetwork.port_range.set = {PORT}-{PORT}\n\
         network.port_random.set = no\ndht.mode.set = disable\nprotocol.pex.set = no\n\
         directory.default.set = {}\nsession.path.set = {}\nschedule2 = load,1,0,\"load.start={}\"\n",
        job.address,
        job.folder.display(),
        session.display(),
        job.torrent.display()
    );
    std::fs::write(&rc, settings)?;
    let mut command = job.command("rtorrent");
    command.arg("-n").arg("-o").arg(format!("import={}", rc.display()));
    Ok(command)
}

fn aria2(job: &Job<'_>) -> Command {
    let mut command = job.command("aria2c");
    // It asks trackers over UDP from the socket of its DHT, and not at all without one. Nobody tells it of other nodes.
    let udp = job.trackers.iter().any(|url| url.starts_with("udp:"));
    command
        .arg(format!("--enable-dht={udp}"))
        .args(["--dht-listen-port", &PORT.to_string(), "--dht-file-path"])
        .arg(job.scratch.join("dht"))
        .args(["--interface", &job.address.to_string(), "--listen-port", &PORT.to_string()])
        .args(["--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false"])
        .args(["--file-allocation=none", "--check-integrity=true", "--seed-ratio=0.0", "--no-conf", "--dir"])
        .arg(job.folder)
        .arg(job.torrent);
    command
}

fn transmission(job: &Job<'_>) -> Result<Command> {
    let (config, watch) = (job.scratch.join("config"), job.scratch.join("watch"));
    std::fs::create_dir(&config)?;
    std::fs::create_dir(&watch)?;
    std::fs::copy(job.torrent, watch.join("it.torrent"))?;
    let settings = serde_json::json!({
        "bind-address-ipv4": job.address, "peer-port": PORT, "rpc-enabled": false, "dht-enabled": false,
        "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false, "port-forwarding-enabled": false, "encryption": 0,
    });
    std::fs::write(config.join("settings.json"), settings.to_string())?;
    let mut command = job.command("transmission-daemon");
    command.arg("-f").arg("-g").arg(&config).arg("-w").arg(job.folder).arg("-c").arg(&watch);
    Ok(command)
}

fn qbittorrent(job: &Job<'_>) -> Result<Command> {
    let config = job.scratch.join("qBittorrent/config");
    std::fs::create_dir_all(&config)?;
    let address = job.address;
    // Its web page cannot be switched off.
    let settings = format!(
        "[LegalNotice]\nAccepted=true\n[Preferences]\nWebUI\\Address={address}\n[Network]\nPortForwardingEnabled=false\n\
         [BitTorrent]\nSession\\InterfaceAddress={address}\nSession\\Port={PORT}\nSession\\BTProtocol=TCP\n\
         Session\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n"
    );
    std::fs::write(config.join("qBittorrent.conf"), settings)?;
    let mut command = job.command("qbittorrent-nox");
    command
        .arg(format!("--profile={}", job.scratch.display()))
        .arg(format!("--save-path={}", job.folder.display()))
        .arg("--skip-dialog=true")
        .arg(job.torrent);
    Ok(command)
}

/// Runs the named test of this binary again inside a network namespace whose loopback has `addresses` (of 10.77.0.0/24 or
/// fd77::/64), and answers false: the test is done. Inside it answers true: now test. What is missing here is skipped by name, or with
/// `CI=true` an error.
pub fn inside_namespace<A>(test: &str, addresses: &[A], programs: &[&str]) -> Result<bool>
where
    A: Copy + Into<IpAddr>,
{
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let needed = ["unshare", "ip"];
    let missing: Vec<&str> =
        programs.iter().chain(&needed).copied().filter(|program| !is_installed(program)).collect();
    if !missing.is_empty() || !rustix::process::geteuid().is_root() {
        skip(test, &format!("root is needed, and these programs: {missing:?}"))?;
        return Ok(false);
    }
    let add = |address: &A| match (*address).into() {
        IpAddr::V4(v4) => format!("ip addr add {v4}/24 dev lo"),
        IpAddr::V6(v6) => format!("ip addr add {v6}/64 dev lo nodad"),
    };
    let added: Vec<String> = addresses.iter().map(add).collect();
    let script = format!("ip link set lo up && {} && exec \"$@\"", added.join(" && "));
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe()?)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()?;
    ensure!(status.success(), "the run inside the namespace failed");
    Ok(false)
}

/// Whether a program of that name can be started.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
