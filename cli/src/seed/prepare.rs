//! From a path to a torrent whose files are known to be whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use torrent::{Limits, Metainfo, RelPath};

use super::known::{Fact, Known};
use crate::output;
use crate::progress::Hashing;
use crate::torrent_command::{
    Source, State, check, folder_of, layout, made, own_name, places, read_metainfo, sources,
};
use crate::units::bytes;

/// Clocks of files stand still for so long at most (a kernel with 100 ticks a second). Who changes a file later than that after the
/// last change gives it another time.
const TICK: Duration = Duration::from_millis(20);

/// What is to be shared.
pub struct Wanted {
    /// A .torrent, or a file or folder to make one of.
    pub path: PathBuf,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--canonical`.
    pub canonical: bool,
    /// Hash in any case.
    pub check: bool,
}

/// A torrent, and where its files lie.
pub struct Ready {
    /// The torrent.
    pub metainfo: Metainfo,
    /// The folder of its files.
    pub folder: PathBuf,
    /// Where each of its files lies below that.
    pub layout: Vec<RelPath>,
    /// Bytes of files that were hashed for it now.
    pub hashed: u64,
}

/// A .torrent means the files that it names, which are checked; anything else is hashed, and then known to be whole.
pub fn prepare(wanted: &Wanted, known: &Known) -> Result<Ready> {
    if wanted.path.extension().is_some_and(|extension| extension == "torrent") && !wanted.path.is_dir() {
        of_torrent(wanted, known)
    } else {
        of_path(wanted, known)
    }
}

fn of_path(wanted: &Wanted, known: &Known) -> Result<Ready> {
    let path = &wanted.path;
    let sources = sources(path)?;
    let files = || sources.iter().map(|source| fact(&source.path, source.state())).collect::<Vec<_>>();
    // One folder can have several names by links, and the torrent is named after that which was typed.
    let key = if wanted.canonical {
        key(b"canonical", path, b"")?
    } else {
        key(b"named", path, own_name(path)?.as_bytes())?
    };
    let recalled = || known.recall(&key, &files()).and_then(|body| Metainfo::parse(&body, &Limits::OWN).ok());
    let mut hashed = 0;
    let metainfo = if let Some(metainfo) = (!wanted.check).then(recalled).flatten() {
        metainfo
    } else {
        hashed = sources.iter().map(Source::size).sum();
        settle(sources.iter().map(Source::state));
        let metainfo = hashing(path, hashed, |bar| made(path, &sources, wanted.canonical, bar))?;
        known.remember(&key, files(), &metainfo.encode());
        metainfo
    };
    let (folder, layout) = if path.is_dir() {
        // The only file of a folder may be named after its bytes in the torrent, but not on the disk.
        (path.clone(), sources.into_iter().map(|source| source.path).collect())
    } else {
        let (folder, name) = split(path)?;
        (folder, vec![name])
    };
    Ok(Ready { metainfo, folder, layout, hashed })
}

fn of_torrent(wanted: &Wanted, known: &Known) -> Result<Ready> {
    let metainfo = read_metainfo(&wanted.path)?;
    let data = data(wanted, &metainfo);
    let (paths, layout) = (places(&metainfo, &data), layout(&metainfo));
    let incomplete = || {
        format!(
            "{} does not hold all that {} names: `samara torrent verify` says what, `samara get` downloads it",
            data.display(),
            wanted.path.display()
        )
    };
    let files = || -> Result<Vec<Fact>> {
        let look = |(file, path): (&PathBuf, &RelPath)| Ok(fact(path, State::of(&fs::metadata(file)?)));
        paths.iter().zip(&layout).map(look).collect::<Result<_>>().with_context(incomplete)
    };
    let before = files()?;
    let key = key(b"torrent", &data, metainfo.info_bytes())?;
    let mut hashed = 0;
    if wanted.check || known.recall(&key, &before).is_none() {
        hashed = metainfo.total_size();
        settle(before.iter().map(|fact| fact.state));
        if !hashing(&data, hashed, |bar| check(&metainfo, &data, bar))?.is_whole() {
            bail!(incomplete());
        }
        if files()? != before {
            bail!("the files of {} changed while they were read; try again", wanted.path.display());
        }
        known.remember(&key, before, b"");
    }
    if let ([file], true) = (&paths[..], data.is_file()) {
        let (folder, name) = split(file)?;
        return Ok(Ready { metainfo, folder, layout: vec![name], hashed });
    }
    let folder = folder_of(&metainfo, &data);
    Ok(Ready { metainfo, folder, layout, hashed })
}

/// Where the files of a .torrent are: as told, else here, else beside it.
fn data(wanted: &Wanted, metainfo: &Metainfo) -> PathBuf {
    let here = PathBuf::from(".");
    let beside = wanted.path.parent().filter(|folder| *folder != Path::new(""));
    let is_there = |folder: &Path| places(metainfo, folder).iter().all(|file| file.exists());
    match (&wanted.data, beside) {
        (Some(data), _) => data.clone(),
        (None, Some(beside)) if !is_there(&here) && is_there(beside) => beside.to_owned(),
        (None, _) => here,
    }
}

fn fact(path: &RelPath, state: State) -> Fact {
    Fact { path: path.as_str().to_owned(), state }
}

/// The name under which something is remembered.
fn key(kind: &[u8], path: &Path, more: &[u8]) -> Result<[u8; 32]> {
    let full = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    // A path has no zero byte in it.
    for part in [kind, &[0], full.as_os_str().as_encoded_bytes(), &[0], more] {
        hash.update(part);
    }
    Ok(hash.finalize().into())
}

/// Waits until a change from now on shows in the times of the files.
fn settle(states: impl Iterator<Item = State>) {
    let now = SystemTime::now();
    if states.map(State::changed).any(|changed| now.duration_since(changed).is_ok_and(|age| age < TICK)) {
        std::thread::sleep(TICK);
    }
}

fn hashing<T>(what: &Path, size: u64, hash: impl FnOnce(&Hashing) -> Result<T>) -> Result<T> {
    output::say(&format!("hashing {} of {}", bytes(size), what.display()));
    let bar = Hashing::new(size);
    let done = hash(&bar);
    bar.finish();
    done
}

/// The folder and the name of a file.
fn split(file: &Path) -> Result<(PathBuf, RelPath)> {
    let name = file.file_name().and_then(|name| name.to_str()).context("the path names no file")?;
    let folder = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder, RelPath::parse(name)?))
}
