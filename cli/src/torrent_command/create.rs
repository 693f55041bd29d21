//! `samara torrent create`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use torrent::{Builder, Metainfo, Version, piece_length_for};

use super::hashing;
use crate::{output, units::parse_bytes};

/// Make a .torrent of a file or a folder.
///
/// The torrent is canonical: the same bytes give the same infohash, whoever makes it and whatever the file is called.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent create model.gguf -o model.torrent --tracker http://10.0.0.1:6969/announce
  samara torrent create dir/ --version v1 > dir.torrent")]
pub struct CreateArgs {
    /// File or folder
    path: PathBuf,
    /// Where to write it; `-` or nothing: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Announce URL; may be given several times
    #[arg(short, long, value_name = "URL")]
    tracker: Vec<String>,
    /// `v1` for clients from before 2022
    #[arg(long, value_enum, default_value_t)]
    version: VersionArg,
    /// Bytes of a piece, a power of two from 16Ki to 64Mi; chosen by size if not given
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    piece_length: Option<u64>,
    /// Let peers be found by other means than the trackers (BEP 27); makes another infohash
    #[arg(long)]
    public: bool,
}

/// Which sides a torrent has.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum VersionArg {
    /// v1 and v2 in one
    #[default]
    Hybrid,
    /// BEP 52 only
    V2,
    /// BEP 3 only
    V1,
}

impl From<VersionArg> for Version {
    fn from(version: VersionArg) -> Self {
        match version {
            VersionArg::Hybrid => Self::Hybrid,
            VersionArg::V2 => Self::V2,
            VersionArg::V1 => Self::V1,
        }
    }
}

pub(super) fn run(args: &CreateArgs) -> Result<()> {
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if output.is_none() && std::io::stdout().is_terminal() {
        bail!("a .torrent is not for a terminal: name a file with -o, or redirect the output");
    }
    let metainfo = metainfo_of(&args.path, args.version.into(), args.piece_length, args.public)?;
    let tiers = args.tracker.iter().map(|url| vec![url.clone()]).collect();
    let bytes = metainfo.with_trackers(tiers).encode();
    match output {
        Some(path) => std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display())),
        None => Ok(std::io::stdout().lock().write_all(&bytes)?),
    }
}

/// The canonical torrent of a file or a folder.
pub fn metainfo_of(
    path: &Path,
    version: Version,
    piece_length: Option<u64>,
    public: bool,
) -> Result<Metainfo> {
    let sources = hashing::sources(path)?;
    let size = sources.iter().map(|source| source.size).sum();
    let builder =
        Builder::new(version, piece_length.unwrap_or_else(|| piece_length_for(size)))?.private(!public);
    let metainfo = hashing::build(builder, &sources)?;
    output::say(&format!("hashed {} of {} file(s)", crate::units::bytes(size), sources.len()));
    Ok(metainfo)
}
