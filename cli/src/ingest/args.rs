//! What `samara get` takes for files that are read at a web server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::share::End;

/// Most machines that read at a time, as in a cluster.
pub const MOST: usize = operator::grants::MOST_FETCHERS;
/// A secret has at least so many bytes; of a longer one all count.
const LEAST_SECRET: usize = 16;
/// A secret is no large file.
const LARGEST_SECRET: u64 = 1 << 20;

/// A URL of a file that is no torrent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files of a web server, shared while they are read")]
pub struct IngestArgs {
    /// The digest that the file must have: each machine compares it with its own bytes, and keeps nothing that differs
    ///
    /// 64 hexadecimal digits, as `sha256sum` prints them. With it, parts can also be had of a file whose server has neither ETag nor
    /// Last-Modified.
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    pub sha256: Option<[u8; 32]>,
    /// A file with a secret that the machines have in common: whoever knows it may say what the pieces hash to
    ///
    /// Any 16 bytes or more, up to 1 MiB, the same on all machines; it is neither sent nor shown. Without it, whoever knows the URL and
    /// reaches the tracker may say it: give --sha256 if you do not trust all of these. Machines with the same secret find each other
    /// whatever their URLs are, if these end in the same name.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How many of the machines read the file, 1 to 8, each another part of it; auto finds out how many make it faster [default: auto]
    ///
    /// Give the same to all of them: each goes by its own. One reads where the server gives no parts (Range), or nothing tells versions
    /// of the file apart; `auto` tries more from 256 MiB on.
    #[arg(long, value_name = "N|auto", value_parser = parse_fetchers)]
    fetchers: Option<Fetchers>,
}

/// How many machines read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetchers {
    /// As many as make it faster.
    Auto,
    /// So many.
    Exactly(usize),
}

fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| format!("`{text}` is not a SHA-256: 64 hexadecimal digits"))?;
    Ok(digest)
}

fn parse_fetchers(text: &str) -> Result<Fetchers, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Fetchers::Auto);
    }
    let count = text.parse().ok().filter(|count| (1..=MOST).contains(count));
    count
        .map(Fetchers::Exactly)
        .ok_or_else(|| format!("`{text}` is neither `auto` nor a number from 1 to {MOST}"))
}

impl IngestArgs {
    /// The option that was given and makes no sense for a torrent, if there is one.
    pub fn given(&self) -> Option<&'static str> {
        [
            (self.sha256.is_some(), "--sha256"),
            (self.secret_file.is_some(), "--secret-file"),
            (self.fetchers.is_some(), "--fetchers"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }

    /// How many are to read a file of which parts can be had.
    pub fn fetchers(&self) -> Fetchers {
        self.fetchers.unwrap_or(Fetchers::Auto)
    }

    /// What the machines have in common.
    pub fn secret(&self) -> Result<Option<Vec<u8>>> {
        self.secret_file.as_deref().map(read_secret).transpose()
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    if size > LARGEST_SECRET {
        return Err(End::Usage(format!("{shown} is larger than 1 MiB, which no secret has to be")).into());
    }
    let secret = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if secret.len() < LEAST_SECRET {
        let why = format!("{shown} is too short for a secret: it has to have {LEAST_SECRET} bytes or more");
        return Err(End::Usage(why).into());
    }
    Ok(secret)
}
