//! `samara torrent verify`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use torrent::Metainfo;

use super::{layout, read_metainfo};
use crate::{output, units};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Check files against a .torrent, piece by piece.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara torrent verify a.torrent --data downloads/
  samara torrent verify model.torrent --data model.gguf")]
pub struct VerifyArgs {
    /// The .torrent
    torrent: PathBuf,
    /// The folder that holds its files, or its one file whatever it is called
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    data: PathBuf,
}

pub(super) fn run(args: &VerifyArgs) -> Result<()> {
    let metainfo = read_metainfo(&args.torrent)?;
    let files = open(&metainfo, &args.data);
    let count = metainfo.pieces().count();
    let mut bad = Vec::new();
    for piece in 0..count {
        if !is_good(&metainfo, &files, piece) {
            bad.push(piece);
        }
    }
    report(&metainfo, &files, &bad)?;
    let wrong_size = sizes(&metainfo, &files).count();
    if bad.is_empty() && wrong_size == 0 {
        return Ok(());
    }
    bail!(
        "{} of {count} pieces and {wrong_size} of {} files are not as they should be",
        bad.len(),
        files.len()
    );
}

/// The files in the torrent's order; one that cannot be opened is missing.
fn open(metainfo: &Metainfo, data: &Path) -> Vec<Option<File>> {
    if metainfo.files().len() == 1 && data.is_file() {
        return vec![File::open(data).ok()];
    }
    layout(metainfo).iter().map(|path| File::open(data.join(path.as_str())).ok()).collect()
}

fn is_good(metainfo: &Metainfo, files: &[Option<File>], piece: u32) -> bool {
    let Some(mut verifier) = metainfo.pieces().verifier(piece) else { return false };
    let (mut buffer, mut at) = (vec![0; CHUNK], 0u32);
    for segment in metainfo.pieces().segments(piece) {
        let Some(file) = &files[segment.file] else { return false };
        let mut done = 0u32;
        while done < segment.len {
            let now = (segment.len - done).min(CHUNK as u32);
            let part = &mut buffer[..now as usize];
            let read = file.read_exact_at(part, segment.offset_in_file + u64::from(done));
            if read.is_err() || verifier.feed(at, part).is_err() {
                return false;
            }
            at += now;
            done += now;
        }
    }
    verifier.finish()
}

/// Files whose length is not the torrent's: bytes behind the end are in no piece.
fn sizes<'a>(metainfo: &'a Metainfo, files: &'a [Option<File>]) -> impl Iterator<Item = &'a torrent::File> {
    metainfo
        .files()
        .iter()
        .zip(files)
        .filter(|(wanted, file)| {
            file.as_ref().and_then(|file| file.metadata().ok()).is_none_or(|found| found.len() != wanted.size)
        })
        .map(|(wanted, _)| wanted)
}

fn report(metainfo: &Metainfo, files: &[Option<File>], bad: &[u32]) -> Result<()> {
    for (index, file) in metainfo.files().iter().enumerate() {
        let broken = metainfo.pieces().of_file(index).filter(|piece| bad.contains(piece)).count();
        let state = match (&files[index], broken) {
            (None, _) => "missing".to_owned(),
            (Some(_), 0) if sizes(metainfo, files).any(|wrong| wrong.path == file.path) => {
                "wrong size".to_owned()
            }
            (Some(_), 0) => "ok".to_owned(),
            (Some(_), count) => format!("{count} bad pieces"),
        };
        output::result(&format!("{state:<14} {:>10}  {}", units::bytes(file.size), file.path))?;
    }
    Ok(())
}
