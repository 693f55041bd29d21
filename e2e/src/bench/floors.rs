//! The floors of a transfer: nginx, which sends a file by sendfile, and what reads from it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::swarm::Place;
use super::usage::{Usage, high_water};
use crate::cluster::process::{Daemon, output};
use crate::cluster::{Namespace, until};

/// How often a client's memory is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// A server of files, one process.
pub(super) struct Nginx<'a> {
    place: Place<'a>,
    daemon: Daemon,
}

impl Drop for Nginx<'_> {
    fn drop(&mut self) {
        self.daemon.kill();
    }
}

impl<'a> Nginx<'a> {
    /// Starts it for the files of `root`; its own are in `folder`.
    pub async fn start(place: Place<'a>, folder: &Path, root: &Path) -> Result<Self> {
        let settings = folder.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; error_log stderr; pid {0}/nginx.pid; events {{}}\n\
             http {{ access_log off; sendfile on; client_body_temp_path {0}/body;\n\
             server {{ listen {1}:80; root {2}; }} }}\n",
            folder.display(),
            place.address,
            root.display()
        );
        std::fs::write(&settings, text)?;
        let mut command = place.host.command("nginx");
        command.arg("-c").arg(&settings);
        let mut daemon = Daemon::spawn(command, &folder.join("nginx.log"))?;
        let url = format!("http://{}/", place.address);
        until("nginx", Duration::from_secs(10), || {
            let state = daemon.check();
            let mut probe = place.host.command("curl");
            probe.args(["--silent", &url]);
            async move {
                state?;
                Ok(output(probe, Duration::from_secs(5)).await?.success.then_some(()))
            }
        })
        .await?;
        Ok(Self { place, daemon })
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.daemon.pid())
    }
}

/// What reads from it into a file.
#[derive(Debug)]
pub(super) enum Client {
    /// curl: no hash.
    Curl,
    /// `e2e-floor`: with SHA-256.
    Floor(PathBuf),
}

impl Client {
    /// What the report calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Curl => CURL,
            Self::Floor(_) => FLOOR,
        }
    }

    /// GETs `name` into a folder; says what that took.
    pub async fn get(&self, nginx: &Nginx<'_>, name: &str, folder: &Path) -> Result<Usage> {
        let command = self.command(nginx.place.host, &nginx.place, name, &folder.join(name));
        tokio::task::spawn_blocking(move || to_its_end(command)).await?
    }

    fn command(&self, host: &Namespace, server: &Place<'_>, name: &str, to: &Path) -> Command {
        let address = server.address;
        match self {
            Self::Curl => {
                let mut command = host.command("curl");
                command.args(["--silent", "--fail", "--output"]).arg(to);
                command.arg(format!("http://{address}/{name}"));
                command
            }
            Self::Floor(program) => {
                let mut command = host.command(program);
                command.args([format!("{address}:80"), format!("/{name}")]).arg(to);
                command
            }
        }
    }
}

/// The rows of the floors.
pub(super) const CURL: &str = "nginx to curl";
/// The one with SHA-256.
pub(super) const FLOOR: &str = "nginx to floor";

/// Runs a program; says what it took. The kernel keeps the times of a process that has ended until somebody has waited for it.
fn to_its_end(mut command: Command) -> Result<Usage> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let pid = Pid::from_child(&child);
    let mut peak = None;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), look)?.is_none() {
        peak = high_water(&status).max(peak);
        std::thread::sleep(GLANCE);
    }
    let cpu = Usage::of(child.id())?.cpu;
    let exit = child.wait()?;
    ensure!(exit.success(), "{command:?}: {exit}");
    Ok(Usage { cpu, peak })
}

/// What a folder's file system is called (statfs(2)).
pub(super) fn file_system(folder: &Path) -> Result<String> {
    let kind = rustix::fs::statfs(folder).with_context(|| folder.display().to_string())?.f_type;
    Ok(match kind {
        0x0102_1994 => "tmpfs".to_owned(),
        0xEF53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        other => format!("a file system of kind {other:#x}"),
    })
}
