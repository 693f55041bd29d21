//! `samara torrent show`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use torrent::{Metainfo, Version};

use super::read_metainfo;
use crate::{output, units};

/// Print what a .torrent says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent show a.torrent
  samara torrent show a.torrent --json | jq -r .infoHashV2")]
pub struct ShowArgs {
    /// The .torrent
    torrent: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ShowArgs) -> Result<()> {
    let metainfo = read_metainfo(&args.torrent)?;
    let text = if args.json { as_json(&metainfo) } else { as_text(&metainfo) };
    Ok(output::result(&text)?)
}

fn version(metainfo: &Metainfo) -> &'static str {
    match metainfo.version() {
        Version::Hybrid => "hybrid",
        Version::V2 => "v2",
        Version::V1 => "v1",
    }
}

fn as_json(metainfo: &Metainfo) -> String {
    let files: Vec<_> = metainfo
        .files()
        .iter()
        .map(|file| {
            json!({
                "path": file.path.as_str(),
                "size": file.size,
                "piecesRoot": file.pieces_root.map(hex::encode),
            })
        })
        .collect();
    let document = json!({
        "name": metainfo.name(),
        "version": version(metainfo),
        "infoHashV1": metainfo.info_hash_v1().map(|hash| hash.to_string()),
        "infoHashV2": metainfo.info_hash_v2().map(|hash| hash.to_string()),
        "private": metainfo.is_private(),
        "pieceLength": metainfo.piece_length(),
        "pieces": metainfo.pieces().count(),
        "size": metainfo.total_size(),
        "trackers": metainfo.trackers(),
        "files": files,
    });
    format!("{document:#}")
}

fn as_text(metainfo: &Metainfo) -> String {
    let mut lines =
        vec![format!("name          {}", metainfo.name()), format!("version       {}", version(metainfo))];
    if let Some(hash) = metainfo.info_hash_v1() {
        lines.push(format!("infohash v1   {hash}"));
    }
    if let Some(hash) = metainfo.info_hash_v2() {
        lines.push(format!("infohash v2   {hash}"));
    }
    lines.push(format!(
        "size          {} ({} bytes)",
        units::bytes(metainfo.total_size()),
        metainfo.total_size()
    ));
    let piece = units::bytes(metainfo.piece_length());
    lines.push(format!("pieces        {} of {piece}", metainfo.pieces().count()));
    lines.push(format!("private       {}", if metainfo.is_private() { "yes" } else { "no" }));
    for (tier, urls) in metainfo.trackers().iter().enumerate() {
        lines.push(format!("tracker {tier:<5} {}", urls.join(", ")));
    }
    lines.push("files".to_owned());
    for file in metainfo.files() {
        lines.push(format!("{:>13}  {}", file.size, file.path));
    }
    lines.join("\n")
}
