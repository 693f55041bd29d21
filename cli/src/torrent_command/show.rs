//! `samara torrent show`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use torrent::{Magnet, Metainfo, Version};

use super::{magnet, read_metainfo};
use crate::{output, units};

/// Files that are named without --files.
const SHOWN_FILES: usize = 20;

/// Print what a .torrent or a magnet link says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent show a.torrent
  samara torrent show a.torrent --json | jq -r .infoHashV2
  curl -s http://tracker/a.torrent | samara torrent show - --files
  samara torrent show 'magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a'")]
pub struct ShowArgs {
    /// The .torrent, `-` for standard input, or a magnet link
    torrent: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// All files, however many
    #[arg(long)]
    files: bool,
    /// Nothing but the magnet link
    #[arg(long, conflicts_with_all = ["json", "files"])]
    magnet: bool,
}

pub(super) fn run(args: &ShowArgs) -> Result<()> {
    let link = args
        .torrent
        .to_str()
        .filter(|text| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:")));
    if let Some(link) = link {
        let magnet = Magnet::parse(link).context("not a usable magnet link")?;
        let text = match (args.magnet, args.json) {
            (true, _) => magnet.to_string(),
            (_, true) => format!("{:#}", magnet_json(&magnet)),
            _ => magnet_text(&magnet),
        };
        return Ok(output::result(&text)?);
    }
    let metainfo = read_metainfo(&args.torrent)?;
    let text = match (args.magnet, args.json) {
        (true, _) => magnet::of(&metainfo).to_string(),
        (_, true) => as_json(&metainfo, None),
        _ => as_text(&metainfo, if args.files { usize::MAX } else { SHOWN_FILES }),
    };
    Ok(output::result(&text)?)
}

fn version(metainfo: &Metainfo) -> &'static str {
    match metainfo.version() {
        Version::Hybrid => "hybrid",
        Version::V2 => "v2",
        Version::V1 => "v1",
    }
}

/// `file`: where the .torrent was written to.
pub(super) fn as_json(metainfo: &Metainfo, file: Option<&Path>) -> String {
    let files: Vec<Value> = metainfo
        .files()
        .iter()
        .map(|file| {
            json!({ "path": file.path.as_str(), "size": file.size, "piecesRoot": file.pieces_root.map(hex::encode) })
        })
        .collect();
    let mut document = json!({
        "name": metainfo.name(),
        "version": version(metainfo),
        "infoHashV1": metainfo.info_hash_v1().map(|hash| hash.to_string()),
        "infoHashV2": metainfo.info_hash_v2().map(|hash| hash.to_string()),
        "private": metainfo.is_private(),
        "source": metainfo.source(),
        "comment": metainfo.comment(),
        "createdBy": metainfo.created_by(),
        "creationDate": metainfo.creation_date(),
        "pieceLength": metainfo.piece_length(),
        "pieces": metainfo.pieces().count(),
        "size": metainfo.total_size(),
        "trackers": metainfo.trackers(),
        "webSeeds": metainfo.web_seeds(),
        "httpSeeds": metainfo.http_seeds(),
        "magnet": magnet::of(metainfo).to_string(),
        "files": files,
    });
    if let Some(file) = file {
        document["file"] = file.display().to_string().into();
    }
    format!("{document:#}")
}

/// With at most so many files.
pub(super) fn as_text(metainfo: &Metainfo, files: usize) -> String {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: &str| lines.push(format!("{key:<13} {}", printable(value)));
    line("name", metainfo.name());
    line("version", version(metainfo));
    if let Some(hash) = metainfo.info_hash_v1() {
        line("infohash v1", &hash.to_string());
    }
    if let Some(hash) = metainfo.info_hash_v2() {
        line("infohash v2", &hash.to_string());
    }
    line("size", &size(metainfo.total_size()));
    let piece = units::bytes(metainfo.piece_length());
    line("pieces", &format!("{} of {piece}", metainfo.pieces().count()));
    line("private", if metainfo.is_private() { "yes" } else { "no" });
    for (key, value) in [
        ("source", metainfo.source()),
        ("comment", metainfo.comment()),
        ("created by", metainfo.created_by()),
    ] {
        if let Some(value) = value {
            line(key, value);
        }
    }
    if let Some(date) = metainfo.creation_date() {
        line("created", &format!("{date} s after 1970"));
    }
    for (tier, urls) in metainfo.trackers().iter().enumerate() {
        line(&format!("tracker {tier}"), &urls.join(", "));
    }
    for url in metainfo.web_seeds().iter().chain(metainfo.http_seeds()) {
        line("web seed", url);
    }
    line("files", &metainfo.files().len().to_string());
    lines.extend(metainfo.files().iter().take(files).map(|file| format!("{:>13}  {}", file.size, file.path)));
    let more = metainfo.files().len().saturating_sub(files);
    if more > 0 && files > 0 {
        lines.push(format!("{:>13}  and {more} more: --files", "..."));
    }
    lines.join("\n")
}

/// Text of strangers must not steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn size(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", units::bytes(bytes))
}

fn selection(magnet: &Magnet) -> Vec<[u32; 2]> {
    magnet.select.iter().map(|range| [*range.start(), *range.end()]).collect()
}

fn magnet_json(magnet: &Magnet) -> Value {
    json!({
        "name": magnet.name,
        "infoHashV1": magnet.v1.map(|hash| hash.to_string()),
        "infoHashV2": magnet.v2.map(|hash| hash.to_string()),
        "size": magnet.size,
        "trackers": magnet.trackers,
        "webSeeds": magnet.web_seeds,
        "peers": magnet.peers,
        "select": selection(magnet),
        "magnet": magnet.to_string(),
    })
}

fn magnet_text(magnet: &Magnet) -> String {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: &str| lines.push(format!("{key:<13} {}", printable(value)));
    magnet.name.iter().for_each(|name| line("name", name));
    magnet.v1.iter().for_each(|hash| line("infohash v1", &hash.to_string()));
    magnet.v2.iter().for_each(|hash| line("infohash v2", &hash.to_string()));
    magnet.size.iter().for_each(|bytes| line("size", &size(*bytes)));
    magnet.trackers.iter().for_each(|url| line("tracker", url));
    magnet.web_seeds.iter().for_each(|url| line("web seed", url));
    magnet.peers.iter().for_each(|peer| line("peer", peer));
    for [first, last] in selection(magnet) {
        line("select", &if first == last { first.to_string() } else { format!("{first}-{last}") });
    }
    lines.join("\n")
}
