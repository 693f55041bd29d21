//! The systems of a swarm benchmark as processes: how each seeds, how each downloads, and how it says that it is done.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::payload::{Payload, Torrent};
use super::usage::{Usage, resident};
use crate::cluster::Namespace;

/// A system that does not get done in this time has failed.
const PATIENCE: Duration = Duration::from_mins(10);

/// Where `samara seed` listens if nothing else is said.
const SAMARA_PORT: u16 = 6881;

/// Many torrents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lot<'a> {
    /// The folder of the .torrents.
    pub torrents: &'a Path,
    /// The folder of all their files.
    pub data: &'a Path,
    /// Where `samara seed` may remember what it has hashed.
    pub state: &'a Path,
    /// Connections at most.
    pub connections: usize,
}

impl Lot<'_> {
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.torrents)? {
            files.push(entry?.path());
        }
        files.sort();
        Ok(files)
    }
}

/// Where a process is to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// In which network.
    pub host: &'a Namespace,
    /// Its own address there.
    pub address: Ipv4Addr,
}

/// What exchanges the bytes.
#[derive(Debug, Clone)]
pub(super) enum System {
    /// Ours, by its command line: what to call it, and the program.
    Samara(&'static str, PathBuf),
    /// libtorrent by its Python binding: the Python.
    Libtorrent(PathBuf),
    /// The same with a v1 torrent.
    LibtorrentV1(PathBuf),
    /// aria2 of the system. It takes a hybrid torrent for one of another infohash, so it has a v1 one.
    Aria2,
}

impl System {
    /// What the report calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Samara(name, _) => name,
            Self::Libtorrent(_) => "libtorrent 2.1.1",
            Self::LibtorrentV1(_) => "libtorrent 2.1.1 v1",
            Self::Aria2 => "aria2",
        }
    }

    /// The torrent that it takes.
    pub fn torrent<'a>(&self, payload: &'a Payload) -> &'a Torrent {
        match self {
            Self::Samara(..) | Self::Libtorrent(_) => &payload.hybrid,
            Self::LibtorrentV1(_) | Self::Aria2 => &payload.v1,
        }
    }
}

/// Whether a program is there to be compared with; says so if it is not.
pub(super) fn takes_part(program: &str) -> bool {
    let installed = xtask::tools::is_installed(program);
    if !installed {
        eprintln!("{program} is not installed and takes no part");
    }
    installed
}

/// How a file of a web server is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    /// `samara`.
    pub program: &'a Path,
    /// Where the file is.
    pub url: &'a str,
    /// What it is called.
    pub name: &'a str,
    /// Further options of `get`.
    pub options: &'a [String],
}

/// A process of a system; it ends with this.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What is in the line that says that it is done.
    done: String,
    /// It ends by itself when its input does. libtorrent has to: it calls a torrent complete before all of it is written.
    ends_with_input: bool,
}

impl Peer {
    fn spawn(command: Command, done: &str) -> Result<Self> {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
            done: done.to_owned(),
            ends_with_input: false,
        })
    }

    fn spawn_libtorrent(place: Place<'_>, python: &Path, job: &str) -> Result<Self> {
        let peer = Self::spawn(libtorrent(place, python, job), "complete")?;
        Ok(Self { ends_with_input: true, ..peer })
    }

    /// The seed; answers when it has its bytes and takes connections.
    pub async fn seed(system: &System, place: Place<'_>, payload: &Payload) -> Result<Self> {
        let torrent = &system.torrent(payload).path;
        let mut peer = match system {
            System::Samara(_, program) => {
                let mut command = waiting(place, program, "");
                command.arg("seed").arg(torrent).arg("--data").arg(&payload.folder);
                command.args(["--bind", &place.address.to_string()]);
                Self::spawn(command, "magnet:?")?
            }
            System::Libtorrent(python) | System::LibtorrentV1(python) => {
                let job = job(place, torrent, payload, &payload.folder, false);
                Self::spawn_libtorrent(place, python, &job)?
            }
            System::Aria2 => {
                let mut command = aria2(place, "", torrent, &payload.folder);
                command.arg("--check-integrity=true");
                Self::spawn(command, "Verification finished")?
            }
        };
        peer.done().await?;
        Ok(peer)
    }

    /// One process that seeds all torrents of a folder; answers when it does, with the port it listens on. Of libtorrent, aria2 and
    /// samara the first and the last can.
    pub async fn seeds(system: &System, place: Place<'_>, lot: &Lot<'_>) -> Result<(Self, u16)> {
        match system {
            System::Samara(_, program) => {
                let mut command = waiting(place, program, "");
                command
                    .arg("seed")
                    .args(lot.files()?)
                    .arg("--data")
                    .arg(lot.data)
                    .arg("--state")
                    .arg(lot.state);
                command.args([
                    "--bind",
                    &place.address.to_string(),
                    "--max-peers",
                    &lot.connections.to_string(),
                ]);
                let mut peer = Self::spawn(command, "magnet:?")?;
                for _ in lot.files()? {
                    peer.done().await?;
                }
                Ok((peer, SAMARA_PORT))
            }
            System::Libtorrent(python) | System::LibtorrentV1(python) => {
                let job = json!({
                    "listen": place.address.to_string(), "torrents": lot.torrents, "folder": lot.data,
                    "connections": lot.connections,
                });
                let mut peer = Self::script(place, python, "seeds.py", &job.to_string(), "listening")?;
                let line = peer.wait_for("listening").await?;
                let port = line.split_whitespace().last().and_then(|port| port.parse().ok());
                Ok((peer, port.context("it says where it listens")?))
            }
            System::Aria2 => bail!("aria2 forgets torrents that are complete"),
        }
    }

    /// Connections of others to a seed that want nothing; answers when it has greeted them all.
    pub async fn idlers(place: Place<'_>, python: &Path, job: &str) -> Result<Self> {
        let mut peer = Self::script(place, python, "idlers.py", job, "connected")?;
        peer.done().await?;
        Ok(peer)
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it has ended ({status})"),
            None => Ok(()),
        }
    }

    fn script(place: Place<'_>, python: &Path, name: &str, job: &str, done: &str) -> Result<Self> {
        let mut command = place.host.command(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)).arg(job);
        Self::spawn(command, done)
    }

    /// A leecher into `folder` that is ready to begin.
    pub async fn leech(system: &System, place: Place<'_>, payload: &Payload, folder: &Path) -> Result<Self> {
        let torrent = &system.torrent(payload).path;
        match system {
            System::Samara(_, program) => Self::get(place, program, torrent, folder, &payload.name),
            System::Libtorrent(python) | System::LibtorrentV1(python) => {
                let job = job(place, torrent, payload, folder, true);
                let mut peer = Self::spawn_libtorrent(place, python, &job)?;
                peer.wait_for("ready").await?;
                Ok(peer)
            }
            System::Aria2 => {
                let mut command = aria2(place, "read go;", torrent, folder);
                // Says it when it happens; its own line of figures comes once a second.
                command.arg("--on-bt-download-complete=/bin/echo");
                Self::spawn(command, " 1 /")
            }
        }
    }

    /// One of several that read a file of a web server between them, ready to begin.
    pub fn read(place: Place<'_>, reading: &Reading<'_>, folder: &Path) -> Result<Self> {
        let mut command = waiting(place, reading.program, "read go;");
        command.args(["get", reading.url, "--seed-after", "--bind", &place.address.to_string()]);
        command.args(reading.options).arg("--output").arg(folder);
        Self::spawn(command, &folder.join(reading.name).display().to_string())
    }

    /// One that shares a file, made into a torrent; answers when it takes connections.
    pub async fn share(
        place: Place<'_>,
        program: &Path,
        file: &Path,
        tracker: &str,
        torrent: &Path,
    ) -> Result<Self> {
        let mut command = waiting(place, program, "");
        command.arg("seed").arg(file).args(["--tracker", tracker, "--bind", &place.address.to_string()]);
        command.arg("--write-torrent").arg(torrent).arg("--state").arg(torrent.with_extension("state"));
        let mut peer = Self::spawn(command, "magnet:?")?;
        peer.done().await?;
        Ok(peer)
    }

    /// A leecher of a .torrent of one file of that name, ready to begin.
    pub fn get(place: Place<'_>, program: &Path, torrent: &Path, folder: &Path, name: &str) -> Result<Self> {
        let mut command = waiting(place, program, "read go;");
        command.arg("get").arg(torrent).arg("--seed-after").arg("--output").arg(folder);
        command.args(["--bind", &place.address.to_string()]);
        Self::spawn(command, &folder.join(name).display().to_string())
    }

    /// The memory that it has now, in bytes.
    pub fn resident(&self) -> Result<u64> {
        resident(self.child.id().context("a peer has ended")?)
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id().context("a peer has ended")?)
    }

    /// Lets it begin.
    pub async fn go(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is a pipe")?;
        stdin.write_all(b"go\n").await.context("the leecher has ended before it began")
    }

    /// Answers when it has everything.
    pub async fn done(&mut self) -> Result<()> {
        let done = self.done.clone();
        self.wait_for(&done).await.map(drop)
    }

    /// Ends it, with its files as it means to leave them.
    pub async fn end(mut self) -> Result<()> {
        if self.ends_with_input {
            drop(self.child.stdin.take());
            let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
            ended.context("a peer does not end")??;
        }
        Ok(())
    }

    /// The line with a word.
    async fn wait_for(&mut self, word: &str) -> Result<String> {
        let line = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.contains(word) {
                    return Ok(line);
                }
                if let Some(why) = line.strip_prefix("failed ") {
                    bail!("a peer failed: {why}");
                }
            }
            bail!("a peer ended before it said {word}")
        };
        tokio::time::timeout(PATIENCE, line).await.with_context(|| format!("no peer said {word}"))?
    }
}

fn job(place: Place<'_>, torrent: &Path, payload: &Payload, folder: &Path, wait: bool) -> String {
    let job = json!({
        "listen": place.address.to_string(), "torrent": torrent, "folder": folder, "peers": [],
        "trackers": [payload.tracker], "wait": wait,
    });
    job.to_string()
}

/// A shell that runs `first` and then becomes the program, with what it says to people where results go.
fn waiting(place: Place<'_>, program: impl AsRef<std::ffi::OsStr>, first: &str) -> Command {
    let mut command = place.host.command("sh");
    command.args(["-c", &format!("{first} exec \"$@\" 2>&1"), "sh"]).arg(program);
    command
}

fn libtorrent(place: Place<'_>, python: &Path, job: &str) -> Command {
    let mut command = place.host.command(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/peer.py")).arg(job);
    command
}

/// Without what looks for peers elsewhere, and seeding until it is ended.
fn aria2(place: Place<'_>, first: &str, torrent: &Path, folder: &Path) -> Command {
    let mut command = waiting(place, "aria2c", first);
    command.args(["--no-conf", "--interface", &place.address.to_string(), "--listen-port=6885"]);
    command.args(["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]);
    command.args(["--enable-peer-exchange=false", "--file-allocation=none", "--seed-ratio=0.0", "--dir"]);
    command.arg(folder).arg(torrent);
    command
}
