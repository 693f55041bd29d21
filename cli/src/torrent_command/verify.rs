//! `samara torrent verify`.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
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
    let (count, files) = (metainfo.pieces().count(), metainfo.files().len());
    let checked = check(&metainfo, &args.data)?;
    let wrong = report(&metainfo, &checked)?;
    if checked.is_whole() {
        return Ok(());
    }
    bail!("{} of {count} pieces and {wrong} of {files} files are not as they should be", checked.bad.len());
}

/// How what lies on the disk compares with a torrent.
#[derive(Debug)]
pub struct Checked {
    /// Length of each file in the torrent's order; none if it is missing.
    sizes: Vec<Option<u64>>,
    /// Pieces that differ, ascending.
    bad: Vec<u32>,
    /// Files whose length is not the torrent's, which no piece shows: bytes behind the end are in none.
    wrong_sizes: usize,
}

impl Checked {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.bad.is_empty() && self.wrong_sizes == 0
    }
}

/// Hashes all pieces of the files below `data`, or of the one file that it is. One file is open at a time.
pub fn check(metainfo: &Metainfo, data: &Path) -> Result<Checked> {
    let paths = places(metainfo, data);
    let sizes = paths.iter().map(|path| size(path)).collect::<Result<Vec<_>>>()?;
    let mut files = Files { paths, open: None };
    let mut bad = Vec::new();
    for piece in 0..metainfo.pieces().count() {
        if !is_good(metainfo, &sizes, &mut files, piece)? {
            bad.push(piece);
        }
    }
    let wrong = metainfo.files().iter().zip(&sizes).filter(|(file, size)| **size != Some(file.size));
    Ok(Checked { wrong_sizes: wrong.count(), sizes, bad })
}

/// Where each file of the torrent lies: a torrent of one file may have it under any name.
pub fn places(metainfo: &Metainfo, data: &Path) -> Vec<PathBuf> {
    if metainfo.files().len() == 1 && data.is_file() {
        return vec![data.to_owned()];
    }
    layout(metainfo).iter().map(|path| data.join(path.as_str())).collect()
}

fn size(path: &Path) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Files that are opened one after the other, as pieces go through them.
struct Files {
    paths: Vec<PathBuf>,
    open: Option<(usize, File)>,
}

impl Files {
    fn get(&mut self, index: usize) -> Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let path = &self.paths[index];
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.open = Some((index, file));
        }
        self.open.as_ref().map(|(_, file)| file).context("it was opened just now")
    }
}

fn is_good(metainfo: &Metainfo, sizes: &[Option<u64>], files: &mut Files, piece: u32) -> Result<bool> {
    let Some(mut verifier) = metainfo.pieces().verifier(piece) else { return Ok(false) };
    let (mut buffer, mut at) = (vec![0; CHUNK], 0u32);
    for segment in metainfo.pieces().segments(piece) {
        let end = segment.offset_in_file + u64::from(segment.len);
        if sizes[segment.file].is_none_or(|size| size < end) {
            return Ok(false);
        }
        let mut done = 0u32;
        while done < segment.len {
            let now = (segment.len - done).min(CHUNK as u32);
            let part = &mut buffer[..now as usize];
            files
                .get(segment.file)?
                .read_exact_at(part, segment.offset_in_file + u64::from(done))
                .with_context(|| format!("cannot read {}", files.paths[segment.file].display()))?;
            if verifier.feed(at, part).is_err() {
                return Ok(false);
            }
            at += now;
            done += now;
        }
    }
    Ok(verifier.finish())
}

/// Says of each file how it is; answers how many are not as they should be.
fn report(metainfo: &Metainfo, checked: &Checked) -> Result<usize> {
    let mut wrong = 0;
    for (index, file) in metainfo.files().iter().enumerate() {
        let pieces = metainfo.pieces().of_file(index);
        let broken = pieces.filter(|piece| checked.bad.binary_search(piece).is_ok()).count();
        let state = match (checked.sizes[index], broken) {
            (None, _) => "missing".to_owned(),
            (Some(size), 0) if size != file.size => "wrong size".to_owned(),
            (Some(_), 0) => "ok".to_owned(),
            (Some(_), count) => format!("{count} bad pieces"),
        };
        wrong += usize::from(state != "ok");
        output::result(&format!("{state:<14} {:>10}  {}", units::bytes(file.size), file.path))?;
    }
    Ok(wrong)
}
