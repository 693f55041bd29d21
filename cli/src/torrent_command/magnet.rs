//! `samara torrent magnet`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use torrent::{Magnet, Metainfo};

use super::read_metainfo;
use crate::output;

/// Print the magnet link of a .torrent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent magnet a.torrent
  samara torrent magnet a.torrent --no-trackers --peer 10.0.0.1:6881 --select 0,4-6")]
pub struct MagnetArgs {
    /// The .torrent; `-` for standard input
    torrent: PathBuf,
    /// Leave out the trackers of the .torrent
    #[arg(long)]
    no_trackers: bool,
    /// Announce URL, besides those of the .torrent; may be given several times
    #[arg(short, long, value_name = "URL", alias = "tracker")]
    announce: Vec<String>,
    /// A peer that has it (x.pe); may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    peer: Vec<String>,
    /// Files to download, counted from 0 (BEP 53), for example 0,4-6
    #[arg(long, value_name = "RANGES")]
    select: Option<String>,
}

pub(super) fn run(args: &MagnetArgs) -> Result<()> {
    let mut magnet = of(&read_metainfo(&args.torrent)?);
    if args.no_trackers {
        magnet.trackers.clear();
    }
    magnet.trackers.extend(args.announce.iter().cloned());
    magnet.peers.clone_from(&args.peer);
    // What was typed goes through the parser, so that only what can be read again is printed.
    let selection = args.select.as_ref().map(|ranges| format!("&so={ranges}")).unwrap_or_default();
    let link = Magnet::parse(&format!("{magnet}{selection}")).context("these options make no magnet link")?;
    Ok(output::result(&link.to_string())?)
}

/// The link of a torrent.
pub fn of(metainfo: &Metainfo) -> Magnet {
    Magnet {
        v1: metainfo.info_hash_v1(),
        v2: metainfo.info_hash_v2(),
        name: Some(metainfo.name().to_owned()),
        size: Some(metainfo.total_size()),
        trackers: metainfo.trackers().concat(),
        web_seeds: metainfo.web_seeds().to_vec(),
        ..Magnet::default()
    }
}
