//! `samara torrent verify`.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use torrent::{Metainfo, PieceHashes, Sides};

use super::pieces::{Reading, Watch, processors};
use super::{glob, layout, read_metainfo};
use crate::progress::Hashing;
use crate::{output, units};

/// Check files against a .torrent, piece by piece.
///
/// Exit code 0: all is as it should be; 1: something differs; 2: it could not be checked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent verify a.torrent --data downloads/
  samara torrent verify model.torrent --data model.gguf --v2
  samara torrent verify a.torrent --only '*.safetensors' --json | jq '.files[] | select(.state != \"ok\")'")]
pub struct VerifyArgs {
    /// The .torrent; `-` for standard input
    torrent: PathBuf,
    /// The folder with its files, or the one that holds it under the torrent's name; or its one file, whatever it is called
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    data: PathBuf,
    /// Only files whose path in the torrent matches; may be given several times
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// By SHA-1 of the pieces [default: by all that the torrent has]
    #[arg(long)]
    v1: bool,
    /// By the SHA-256 trees of BEP 52
    #[arg(long)]
    v2: bool,
    /// Threads that hash [default: one for each processor]
    #[arg(short, long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let metainfo = read_metainfo(&args.torrent)?;
    let only = glob::set(&args.only)?;
    let wanted = |path: &str| args.only.is_empty() || only.is_match(path);
    let selected: Vec<usize> =
        (0..metainfo.files().len()).filter(|index| wanted(metainfo.files()[*index].path.as_str())).collect();
    if selected.is_empty() {
        bail!("no file of the torrent matches: `samara torrent show --files` lists them");
    }
    let size = selected.iter().map(|index| metainfo.files()[*index].size).sum();
    let bar = Hashing::new(size);
    let threads = args.threads.map_or_else(processors, usize::from);
    let checked = check_files(&metainfo, &args.data, &selected, sides(args, &metainfo)?, threads, &bar);
    bar.finish();
    let checked = checked?;
    if args.json {
        output::result(&format!("{:#}", as_json(&metainfo, &checked)))?;
    } else {
        report(&metainfo, &checked)?;
    }
    Ok(if checked.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sides that were asked for; a torrent that lacks one cannot be checked by it.
fn sides(args: &VerifyArgs, metainfo: &Metainfo) -> Result<Sides> {
    let has = metainfo.pieces().sides();
    let asked = Sides { v1: args.v1, v2: args.v2 };
    if asked.is_empty() {
        return Ok(has);
    }
    if asked.and(has) != asked {
        bail!("the torrent has no {} side", if asked.v1 && !has.v1 { "v1" } else { "v2" });
    }
    Ok(asked)
}

/// How a file compares with a torrent.
#[derive(Debug)]
struct CheckedFile {
    /// In the torrent's order.
    index: usize,
    /// Bytes on the disk; `None` if it is missing.
    size: Option<u64>,
    /// Pieces in which it or a neighbour differs, counted from the start of the torrent.
    bad: Vec<RangeInclusive<u32>>,
}

impl CheckedFile {
    fn state(&self, metainfo: &Metainfo) -> &'static str {
        match self.size {
            None => "missing",
            Some(size) if size != metainfo.files()[self.index].size => "wrongSize",
            Some(_) if self.bad.is_empty() => "ok",
            Some(_) => "bad",
        }
    }
}

/// How what lies on the disk compares with a torrent.
#[derive(Debug)]
pub struct Checked {
    files: Vec<CheckedFile>,
    /// Pieces that were hashed or could not be.
    pieces: usize,
    bad: Vec<u32>,
    /// Files that are not as they should be.
    wrong: usize,
}

impl Checked {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.wrong == 0
    }
}

/// Hashes all pieces of the files below `data`, or of the one file that it is, by all sides there are.
pub fn check(metainfo: &Metainfo, data: &Path, watch: &dyn Watch) -> Result<Checked> {
    let all: Vec<usize> = (0..metainfo.files().len()).collect();
    check_files(metainfo, data, &all, metainfo.pieces().sides(), processors(), watch)
}

fn check_files(
    metainfo: &Metainfo,
    data: &Path,
    selected: &[usize],
    sides: Sides,
    threads: usize,
    watch: &dyn Watch,
) -> Result<Checked> {
    let (pieces, files) = (metainfo.pieces(), places(metainfo, data));
    let lengths = files.iter().map(|path| size(path)).collect::<Result<Vec<_>>>()?;
    let mut wanted: Vec<u32> = selected.iter().flat_map(|file| pieces.of_file(*file)).collect();
    wanted.dedup();
    let found = Reading { pieces, files: &files, lengths: &lengths, sides, threads, watch }.hash(&wanted)?;
    let differs =
        |(piece, found): &(&u32, Option<PieceHashes>)| *found != Some(pieces.expected(**piece, sides));
    let bad: Vec<u32> = wanted.iter().zip(found).filter(differs).map(|(piece, _)| *piece).collect();
    let files: Vec<CheckedFile> = selected
        .iter()
        .map(|index| {
            let range = pieces.of_file(*index);
            let (from, to) = (
                bad.partition_point(|piece| *piece < range.start),
                bad.partition_point(|piece| *piece < range.end),
            );
            CheckedFile { index: *index, size: lengths[*index], bad: ranges(&bad[from..to]) }
        })
        .collect();
    let wrong = files.iter().filter(|file| file.state(metainfo) != "ok").count();
    Ok(Checked { files, pieces: wanted.len(), bad, wrong })
}

/// Where each file of the torrent lies: a torrent of one file may have it under any name.
pub fn places(metainfo: &Metainfo, data: &Path) -> Vec<PathBuf> {
    if metainfo.files().len() == 1 && data.is_file() {
        return vec![data.to_owned()];
    }
    let folder = folder_of(metainfo, data);
    layout(metainfo).iter().map(|path| folder.join(path.as_str())).collect()
}

/// The folder below which the files of the torrent lie: `data`, or one of the torrent's name in it.
pub fn folder_of(metainfo: &Metainfo, data: &Path) -> PathBuf {
    let named = data.join(metainfo.name());
    let here = metainfo.files().first().is_some_and(|first| data.join(first.path.as_str()).exists());
    if !here && !metainfo.is_single_file() && named.is_dir() { named } else { data.to_owned() }
}

fn size(path: &Path) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Ascending numbers as ranges.
fn ranges(pieces: &[u32]) -> Vec<RangeInclusive<u32>> {
    pieces.chunk_by(|a, b| *b == *a + 1).filter_map(|run| Some(*run.first()?..=*run.last()?)).collect()
}

fn as_json(metainfo: &Metainfo, checked: &Checked) -> Value {
    let pairs = |ranges: &[RangeInclusive<u32>]| -> Vec<[u32; 2]> {
        ranges.iter().map(|range| [*range.start(), *range.end()]).collect()
    };
    let files: Vec<Value> = checked
        .files
        .iter()
        .map(|file| {
            let expected = &metainfo.files()[file.index];
            json!({
                "path": expected.path.as_str(), "size": expected.size, "found": file.size,
                "state": file.state(metainfo), "badPieces": pairs(&file.bad),
            })
        })
        .collect();
    json!({
        "ok": checked.is_whole(), "pieces": checked.pieces, "badPieces": pairs(&ranges(&checked.bad)), "files": files,
    })
}

/// Says of each file how it is, and at the end of all together.
fn report(metainfo: &Metainfo, checked: &Checked) -> Result<()> {
    for file in &checked.files {
        let expected = &metainfo.files()[file.index];
        let state = match (file.state(metainfo), file.size) {
            ("wrongSize", Some(size)) => format!("{size} bytes"),
            (state, _) => state.to_owned(),
        };
        let shown: Vec<String> = file.bad.iter().take(8).map(shown).collect();
        let more = if file.bad.len() > 8 { ", ..." } else { "" };
        let pieces =
            if shown.is_empty() { String::new() } else { format!("  pieces {}{more}", shown.join(", ")) };
        output::result(&format!(
            "{state:<14} {:>10}  {}{pieces}",
            units::bytes(expected.size),
            expected.path
        ))?;
    }
    if !checked.is_whole() {
        output::say(&format!(
            "{} of {} pieces and {} of {} files are not as they should be",
            checked.bad.len(),
            checked.pieces,
            checked.wrong,
            checked.files.len()
        ));
    }
    Ok(())
}

fn shown(range: &RangeInclusive<u32>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}
