//! `samara torrent edit`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use torrent::Metainfo;

use super::create::split_tier;
use super::read_metainfo;
use super::target::Target;

/// Change what a .torrent says outside `info`: the infohash stays, and so do its peers.
///
/// What is not named here is kept as it is. The file is replaced as a whole.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent edit a.torrent -a http://new/announce
  samara torrent edit a.torrent --no-announce --no-comment -o bare.torrent
  samara torrent edit - --add-announce http://more/announce -o - < a.torrent > b.torrent")]
#[expect(clippy::struct_excessive_bools, reason = "a command line has flags")]
pub struct EditArgs {
    /// The .torrent; `-` for standard input
    torrent: PathBuf,
    /// Where to write it, `-` for standard output [default: in its own place]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(short, long)]
    force: bool,
    /// These trackers and no others; commas make a tier of several, -a again makes the next one
    #[arg(short, long, value_name = "URL", alias = "tracker", conflicts_with = "no_announce")]
    announce: Vec<String>,
    /// One more tier of trackers
    #[arg(long, value_name = "URL")]
    add_announce: Vec<String>,
    /// Take out this tracker
    #[arg(long, value_name = "URL")]
    remove_announce: Vec<String>,
    /// No trackers
    #[arg(long)]
    no_announce: bool,
    /// These web seeds (BEP 19) and no others
    #[arg(short, long, value_name = "URL", conflicts_with = "no_web_seeds")]
    web_seed: Vec<String>,
    /// No web seeds
    #[arg(long)]
    no_web_seeds: bool,
    /// This comment
    #[arg(short, long, value_name = "TEXT", conflicts_with = "no_comment")]
    comment: Option<String>,
    /// No comment
    #[arg(long)]
    no_comment: bool,
    /// No date of creation, and no name of the program that made it
    #[arg(long)]
    no_date: bool,
}

pub(super) fn run(args: &EditArgs) -> Result<()> {
    let metainfo = read_metainfo(&args.torrent)?;
    let target = match (&args.output, args.torrent.as_os_str() == "-") {
        (Some(output), _) => Target::new(Some(output), metainfo.name(), args.force)?,
        (None, true) => bail!("where to? -o names a file, -o - is standard output"),
        (None, false) => Target::replacing(&args.torrent),
    };
    target.write(&edited(args, metainfo)?.encode())
}

fn edited(args: &EditArgs, mut metainfo: Metainfo) -> Result<Metainfo> {
    let mut tiers = metainfo.trackers().to_vec();
    if args.no_announce {
        tiers.clear();
    }
    if !args.announce.is_empty() {
        tiers = args.announce.iter().map(|tier| split_tier(tier)).collect();
    }
    for url in &args.remove_announce {
        let before = tiers.iter().flatten().count();
        for tier in &mut tiers {
            tier.retain(|known| known != url);
        }
        if tiers.iter().flatten().count() == before {
            bail!("the torrent has no such tracker to remove: `samara torrent show` lists them");
        }
    }
    tiers.extend(args.add_announce.iter().map(|tier| split_tier(tier)));
    if tiers != metainfo.trackers() {
        metainfo = metainfo.with_trackers(tiers);
    }
    if args.no_web_seeds || !args.web_seed.is_empty() {
        metainfo = metainfo.with_web_seeds(args.web_seed.clone());
    }
    if args.no_web_seeds {
        metainfo = metainfo.with_http_seeds(Vec::new());
    }
    if args.no_comment || args.comment.is_some() {
        metainfo = metainfo.with_comment(args.comment.clone());
    }
    if args.no_date {
        metainfo = metainfo.with_creation_date(None).with_created_by(None);
    }
    Ok(metainfo)
}
