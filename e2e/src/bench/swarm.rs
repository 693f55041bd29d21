//! The systems of a swarm benchmark as processes: how each seeds, how each downloads, and how it says that it is done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::cluster::{Hosts, Namespace};

/// A system that does not get done in this time has failed.
const PATIENCE: Duration = Duration::from_mins(10);

/// What exchanges the bytes.
#[derive(Debug, Clone)]
pub enum System {
    /// Ours, by its command line: the program.
    Samara(PathBuf),
    /// libtorrent by its Python binding: the Python.
    Libtorrent(PathBuf),
}

impl System {
    /// What the report calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Samara(_) => "samara",
            Self::Libtorrent(_) => "libtorrent 2.1.1",
        }
    }
}

/// A torrent, and where the seed has its bytes.
#[derive(Debug)]
pub struct Payload<'a> {
    /// The .torrent, with its tracker.
    pub torrent: &'a Path,
    /// The same tracker.
    pub tracker: &'a str,
    /// The folder that holds the payload under the torrent's name.
    pub folder: &'a Path,
}

/// A process of a system; it ends with this.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// How the line starts that says that it is done.
    done: String,
}

impl Peer {
    fn spawn(command: Command, done: &str) -> Result<Self> {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), done: done.to_owned() })
    }

    /// The seed, on host `index`; answers when it has its bytes and takes connections.
    pub async fn seed(system: &System, hosts: &Hosts, index: usize, payload: &Payload<'_>) -> Result<Self> {
        let (host, address) = hosts.host(index);
        let mut peer = match system {
            System::Samara(program) => {
                let mut command = samara(host, program, "");
                command.arg("seed").arg(payload.torrent).arg("--data").arg(payload.folder);
                Self::spawn(command, "magnet:?")?
            }
            System::Libtorrent(python) => {
                let job = job(address, payload, payload.folder, false);
                Self::spawn(libtorrent(host, python, &job), "complete")?
            }
        };
        peer.done().await?;
        Ok(peer)
    }

    /// A leecher on host `index`, into `folder`, that is ready to begin.
    pub async fn leech(
        system: &System,
        hosts: &Hosts,
        index: usize,
        payload: &Payload<'_>,
        folder: &Path,
    ) -> Result<Self> {
        let (host, address) = hosts.host(index);
        match system {
            System::Samara(program) => {
                let mut command = samara(host, program, "read go;");
                command.arg("get").arg(payload.torrent).arg("--seed-after").arg("--output").arg(folder);
                // The paths of the files, once they are there.
                Self::spawn(command, &folder.display().to_string())
            }
            System::Libtorrent(python) => {
                let job = job(address, payload, folder, true);
                let mut peer = Self::spawn(libtorrent(host, python, &job), "complete")?;
                peer.wait_for("ready").await?;
                Ok(peer)
            }
        }
    }

    /// Lets it begin.
    pub async fn go(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is a pipe")?;
        stdin.write_all(b"go\n").await.context("the leecher has ended before it began")
    }

    /// Answers when it has everything.
    pub async fn done(&mut self) -> Result<()> {
        let done = self.done.clone();
        self.wait_for(&done).await
    }

    async fn wait_for(&mut self, word: &str) -> Result<()> {
        let line = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.starts_with(word) {
                    return Ok(());
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

fn job(address: std::net::Ipv4Addr, payload: &Payload<'_>, folder: &Path, wait: bool) -> String {
    let job = json!({
        "listen": address.to_string(), "torrent": payload.torrent, "folder": folder, "peers": [],
        "trackers": [payload.tracker], "wait": wait,
    });
    job.to_string()
}

/// A shell that runs `first` and then becomes the program, with what it says to people where results go.
fn samara(host: &Namespace, program: &Path, first: &str) -> Command {
    let mut command = host.command("sh");
    command.args(["-c", &format!("{first} exec \"$@\" 2>&1"), "sh"]).arg(program);
    command
}

fn libtorrent(host: &Namespace, python: &Path, job: &str) -> Command {
    let mut command = host.command(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/peer.py")).arg(job);
    command
}
