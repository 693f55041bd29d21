//! aquatic's load testers: what they are told, and what they say every five seconds.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::announce::Protocol;

/// Torrents of both testers: HTTP's has as many by itself, and UDP's would have more than a whitelist holds.
pub(super) const TORRENTS: usize = 10_000;
/// Peers of the UDP tester; the one for HTTP makes a new peer for every announce.
pub(super) const UDP_PEERS: usize = 500_000;
/// Seconds between two reports.
pub(super) const WINDOW: u64 = 5;
/// The UDP tester's seed for its infohashes.
const SEED: u64 = 0xc3aa_8be6_17b3_acce;

/// The program that loads by `protocol`.
pub(super) fn program(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "aquatic_udp_load_test",
        Protocol::Http => "aquatic_http_load_test",
    }
}

/// Its settings, out of those that it prints.
pub(super) fn settings(protocol: Protocol, printed: &str, server: &str) -> Result<String> {
    let server = format!("\"{server}\"");
    let (torrents, peers) = (TORRENTS.to_string(), UDP_PEERS.to_string());
    let changes: &[(&str, &str)] = match protocol {
        Protocol::Udp => &[
            ("server_address", &server),
            ("number_of_torrents", &torrents),
            ("number_of_peers", &peers),
            ("extra_statistics", "false"),
        ],
        Protocol::Http => {
            &[("server_address", &server), ("number_of_torrents", &torrents), ("enable_tls", "false")]
        }
    };
    set(printed, changes)
}

/// Changes settings in TOML as aquatic prints it: a line for each.
pub(super) fn set(toml: &str, changes: &[(&str, &str)]) -> Result<String> {
    let mut lines: Vec<String> = toml.lines().map(str::to_owned).collect();
    for (key, value) in changes {
        let prefix = format!("{key} = ");
        let line = lines.iter_mut().find(|line| line.starts_with(&prefix));
        *line.with_context(|| format!("aquatic has no setting {key}"))? = format!("{prefix}{value}");
    }
    Ok(lines.join("\n"))
}

/// What a tester says of five seconds, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Window {
    /// Answers that are what was asked for.
    pub served: f64,
    /// Those that say no.
    pub refused: f64,
}

/// A tester that runs. It ends with this.
pub(super) struct Tester {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Tester {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Tester {
    /// Starts it; `log` has what it complains about.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(log)?);
        let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for so many reports, the one of the five seconds that run first. Answers their average.
    pub fn windows(&mut self, count: u64) -> Result<Window> {
        let mut average = Window::default();
        for _ in 0..count {
            let window = self.window()?;
            average.served += window.served / count as f64;
            average.refused += window.refused / count as f64;
        }
        Ok(average)
    }

    fn window(&mut self) -> Result<Window> {
        let mut window = Window::default();
        for line in self.lines.by_ref() {
            match Answers::parse(&line?) {
                Some(Answers::Served(rate)) => window.served += rate,
                // It is the last of the lines.
                Some(Answers::Refused(rate)) => return Ok(Window { refused: rate, ..window }),
                None => {}
            }
        }
        bail!("the load tester ended")
    }
}

#[derive(Debug, PartialEq)]
enum Answers {
    Served(f64),
    Refused(f64),
}

impl Answers {
    /// `  - Announce responses: 12281.60`.
    fn parse(line: &str) -> Option<Self> {
        let (kind, rate) = line.strip_prefix("  - ")?.split_once(" responses:")?;
        let rate = rate.trim().parse().ok()?;
        match kind {
            "Connect" | "Announce" | "Scrape" => Some(Self::Served(rate)),
            "Error" | "Failure" => Some(Self::Refused(rate)),
            _ => None,
        }
    }
}

/// The infohashes of the UDP tester, which are the same in each run: rand 0.8's `SmallRng`, xoshiro256++ seeded by PCG32.
pub(super) fn info_hashes() -> impl Iterator<Item = [u8; 20]> {
    let mut state = SEED;
    let mut word = || u64::from(pcg32(&mut state)) | u64::from(pcg32(&mut state)) << 32;
    let mut words = [word(), word(), word(), word()];
    std::iter::repeat_with(move || std::array::from_fn(|_| (xoshiro(&mut words) >> 32) as u8))
}

fn pcg32(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11_634_580_027_462_260_723);
    ((((*state >> 18) ^ *state) >> 27) as u32).rotate_right((*state >> 59) as u32)
}

fn xoshiro(words: &mut [u64; 4]) -> u64 {
    let result = words[0].wrapping_add(words[3]).rotate_left(23).wrapping_add(words[0]);
    let shifted = words[1] << 17;
    words[2] ^= words[0];
    words[3] ^= words[1];
    words[1] ^= words[2];
    words[0] ^= words[3];
    words[2] ^= shifted;
    words[3] = words[3].rotate_left(45);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_testers_infohashes_are_those_that_it_sends() {
        let sent = ["9b2c89021127d21d52983827ff49ffb3f783d5af", "bb8f3bd4747077593f776fe69e474ba5dbafb877"];
        assert_eq!(info_hashes().take(2).map(hex::encode).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn a_refusal_counts_as_one() {
        assert_eq!(Answers::parse("  - Announce responses: 12.50"), Some(Answers::Served(12.5)));
        assert_eq!(Answers::parse("  - Scrape responses:   1.00"), Some(Answers::Served(1.0)));
        assert_eq!(Answers::parse("  - Failure responses:  2.00"), Some(Answers::Refused(2.0)));
        assert_eq!(Answers::parse("  - p99: 2"), None);
        assert_eq!(Answers::parse("Responses in: 2.00/second"), None);
    }

    #[test]
    fn a_setting_that_is_not_there_is_not_passed_over() {
        assert_eq!(set("a = 1\n# b = 2\nb = 3", &[("b", "4")]).unwrap(), "a = 1\n# b = 2\nb = 4");
        assert!(set("a = 1", &[("b", "4")]).is_err());
    }
}
