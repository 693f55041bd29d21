//! The trackers that are compared: how each is started for one protocol, and why one may take no part.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::announce::{Protocol, info_hash};
use super::tester::{TORRENTS, info_hashes, set};

/// Peers and torrents that our tracker is to list at most, in all and of each kind: more than there are.
const ROOM: &str = "10000000";
/// Its options for that.
const ROOMS: [&str; 4] =
    ["--max-torrents", "--max-peers", "--max-peers-per-torrent", "--max-peers-per-address"];

/// A tracker.
#[derive(Debug, Clone)]
pub(super) enum Server {
    /// Ours: what to call it, the program, and its help, which says what it can.
    Samara { name: &'static str, program: PathBuf, help: String },
    /// The same with another beside it that is told of everything.
    Replicated(Box<Self>),
    /// aquatic_udp with one socket worker, by epoll.
    AquaticUdp(PathBuf),
    /// The same by io_uring.
    AquaticUring(PathBuf),
    /// aquatic_http with one socket and one swarm worker, which is the least; it has io_uring only.
    AquaticHttp(PathBuf),
    /// The one of the system, which serves what is in its whitelist.
    Opentracker,
}

impl Server {
    /// Ours.
    pub fn samara(name: &'static str, program: PathBuf) -> Result<Self> {
        let output = Command::new(&program).arg("--help").output();
        let output = output.with_context(|| format!("{} does not start", program.display()))?;
        Ok(Self::Samara { name, program, help: String::from_utf8_lossy(&output.stdout).into_owned() })
    }

    /// What the report calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Samara { name, .. } => name,
            Self::Replicated(_) => "samara with a sibling",
            Self::AquaticUdp(_) => "aquatic_udp 0.9.0 mio",
            Self::AquaticUring(_) => "aquatic_udp 0.9.0 uring",
            Self::AquaticHttp(_) => "aquatic_http 0.9.0",
            Self::Opentracker => "opentracker",
        }
    }

    /// Whether it is one for `protocol` at all.
    pub fn speaks(&self, protocol: Protocol) -> bool {
        match self {
            Self::AquaticUdp(_) | Self::AquaticUring(_) => protocol == Protocol::Udp,
            Self::AquaticHttp(_) => protocol == Protocol::Http,
            Self::Samara { .. } | Self::Replicated(_) | Self::Opentracker => true,
        }
    }

    /// Whether another one is to be started beside it.
    pub fn is_replicated(&self) -> bool {
        matches!(self, Self::Replicated(_))
    }

    /// Why it takes no part in `protocol`, if it does not.
    pub fn left_out(&self, protocol: Protocol) -> Option<String> {
        match (self, protocol) {
            (Self::Replicated(one), _) => one.left_out(protocol),
            (Self::Samara { name, help, .. }, Protocol::Udp) if !has(help, "--udp") => {
                Some(format!("{name}: no UDP: this samara-tracker has no option --udp"))
            }
            (Self::Opentracker, Protocol::Http) => {
                let why = "it serves a whitelist, and the HTTP tester's infohashes are random";
                Some(format!("opentracker: left out: {why}"))
            }
            _ => None,
        }
    }

    /// What is to be known about how it runs.
    pub fn remark(&self) -> Option<String> {
        let Self::Samara { name, help, .. } = self else { return None };
        let missing: Vec<&str> = ROOMS.into_iter().filter(|option| !has(help, option)).collect();
        let limits = "it lists fewer of the peers that come from one address than the others do";
        (!missing.is_empty()).then(|| format!("{name}: has no {}: {limits}", missing.join(", ")))
    }

    /// The program and its arguments, for an address; its files go into `folder`. `sibling` is the address of the other one, if there is
    /// to be another.
    pub fn command_beside(
        &self,
        protocol: Protocol,
        address: &str,
        sibling: &str,
        folder: &Path,
    ) -> Result<Vec<String>> {
        let token = folder.join("token");
        std::fs::write(&token, "of this benchmark, and of nothing else")?;
        let mut words = self.command(protocol, address, folder)?;
        let sibling = format!("http://{sibling}");
        words.extend([
            "--token-file".to_owned(),
            token.display().to_string(),
            "--sibling".to_owned(),
            sibling,
        ]);
        Ok(words)
    }

    /// The program and its arguments, for an address; its files go into `folder`.
    pub fn command(&self, protocol: Protocol, address: &str, folder: &Path) -> Result<Vec<String>> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        Ok(match self {
            Self::Replicated(one) => one.command(protocol, address, folder)?,
            Self::Samara { program, help, .. } => {
                let mut words = vec![text(program)?];
                words.extend(["--public", "--listen", address].map(str::to_owned));
                let udp = if protocol == Protocol::Udp { address } else { "off" };
                let udp = ("--udp", udp);
                let rooms = ROOMS.map(|option| (option, ROOM));
                for (option, value) in
                    std::iter::once(udp).chain(rooms).filter(|(option, _)| has(help, option))
                {
                    words.extend([option.to_owned(), value.to_owned()]);
                }
                words
            }
            Self::AquaticUdp(program) => {
                aquatic(program, &[("address", address), ("use_io_uring", "false")], folder)?
            }
            Self::AquaticUring(program) => {
                aquatic(program, &[("address", address), ("use_io_uring", "true")], folder)?
            }
            Self::AquaticHttp(program) => aquatic(program, &[("address", address)], folder)?,
            Self::Opentracker => {
                vec!["opentracker".to_owned(), "-f".to_owned(), text(&opentracker(address, folder)?)?]
            }
        })
    }
}

/// Whether a help describes an option.
fn has(help: &str, option: &str) -> bool {
    help.split(|c: char| c.is_whitespace() || c == '=' || c == ',').any(|word| word == option)
}

/// aquatic with the settings that it prints, but for these.
fn aquatic(program: &Path, changes: &[(&str, &str)], folder: &Path) -> Result<Vec<String>> {
    let printed = printed(program)?;
    let quoted: Vec<(&str, String)> = changes
        .iter()
        .map(|(key, value)| {
            (*key, if *key == "address" { format!("\"{value}\"") } else { (*value).to_owned() })
        })
        .collect();
    let changes: Vec<(&str, &str)> = quoted.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let path = folder.join("server.toml");
    std::fs::write(&path, set(&printed, &changes)?)?;
    Ok([program, Path::new("-c"), &path].map(|word| word.display().to_string()).to_vec())
}

/// The settings that a program of aquatic prints.
pub(super) fn printed(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("-p").output();
    let output = output.with_context(|| format!("{} does not start", program.display()))?;
    Ok(String::from_utf8(output.stdout)?)
}

/// It leaves root's rights, and sees nothing but `folder`.
fn opentracker(address: &str, folder: &Path) -> Result<PathBuf> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let ours = (0..TORRENTS as u32).map(info_hash);
    let mut whitelist = String::new();
    for hash in ours.chain(info_hashes().take(TORRENTS)) {
        writeln!(whitelist, "{}", hex::encode(hash))?;
    }
    std::fs::write(folder.join("whitelist"), whitelist)?;
    let (path, root) = (folder.join("opentracker.conf"), folder.display());
    let text = format!(
        "listen.tcp_udp {address}\naccess.whitelist /whitelist\ntracker.rootdir {root}\ntracker.user nobody\n"
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_samara_without_udp_says_so_and_gets_no_option_that_it_does_not_know() {
        let help = "  --max-peers <PEERS>\n  --max-peers-per-torrent <N>  see --udpate".to_owned();
        let old = Server::Samara { name: "samara", program: "t".into(), help };
        assert!(old.left_out(Protocol::Udp).unwrap().contains("no UDP"));
        assert!(old.left_out(Protocol::Http).is_none());
        assert!(old.remark().unwrap().contains("--max-peers-per-address"));
        let words = old.command(Protocol::Http, "127.0.0.1:1", Path::new("/")).unwrap();
        assert_eq!(words.iter().filter(|word| word.starts_with("--max")).count(), 2);
        assert!(!words.contains(&"--udp".to_owned()));
    }
}
