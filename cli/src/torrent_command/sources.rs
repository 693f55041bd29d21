//! The files to make a torrent of.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use globset::GlobSet;
use serde::{Deserialize, Serialize};
use torrent::RelPath;

/// A file to put into a torrent.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub file: PathBuf,
    /// What it is called in the torrent.
    pub path: RelPath,
    /// Bytes, as they were when it was found.
    pub size: u64,
    state: State,
}

/// By what a change shows: device, inode, size, and the times of the last change to bytes and to the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    file: (u64, u64),
    size: u64,
    changed: [i64; 4],
}

impl State {
    /// Of a file now.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            changed: [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
        }
    }

    /// When bytes or inode changed last, whatever the owner has made the times of the bytes to be.
    pub fn changed(self) -> SystemTime {
        let [_, _, seconds, nanoseconds] = self.changed;
        let whole = Duration::from_secs(seconds.try_into().unwrap_or(0));
        SystemTime::UNIX_EPOCH + whole + Duration::from_nanos(nanoseconds.try_into().unwrap_or(0))
    }
}

impl Source {
    /// Bytes, as they were when it was found.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How it was when it was found.
    pub fn state(&self) -> State {
        self.state
    }
}

/// The files under `root`, as [`sources_without`] leaving out nothing.
pub fn sources(root: &Path) -> Result<Vec<Source>> {
    sources_without(&GlobSet::empty(), root)
}

/// The files under `root`, ascending by path, but those that `exclude` matches; `root` itself if it is a file. Links and
/// special files are refused: a torrent made of what they point to would surprise someone.
pub fn sources_without(exclude: &GlobSet, root: &Path) -> Result<Vec<Source>> {
    let metadata = fs::metadata(root).with_context(|| format!("cannot read {}", root.display()))?;
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(root, exclude, &mut Vec::new(), &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
    } else {
        let name = root.file_name().context("the path names no file")?;
        let name = name.to_str().with_context(|| not_utf8(root))?;
        found.push(source(root, &[name.to_owned()], &metadata)?);
    }
    if found.is_empty() {
        bail!("{} holds no files", root.display());
    }
    Ok(found)
}

fn walk(folder: &Path, exclude: &GlobSet, above: &mut Vec<String>, found: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        above.push(entry.file_name().to_str().with_context(|| not_utf8(&path))?.to_owned());
        if exclude.is_match(above.join("/")) {
            // Left out, with all that lies below.
        } else if kind.is_dir() {
            walk(&path, exclude, above, found)?;
        } else if kind.is_file() {
            found.push(source(&path, above, &entry.metadata()?)?);
        } else {
            bail!(
                "{} is neither a file nor a folder; leave it out or replace it by what it points to",
                path.display()
            );
        }
        above.pop();
    }
    Ok(())
}

fn source(file: &Path, components: &[String], metadata: &Metadata) -> Result<Source> {
    let path = RelPath::from_components(components.iter().map(String::as_bytes))
        .with_context(|| format!("{} cannot be in a torrent", file.display()))?;
    Ok(Source { file: file.to_owned(), path, size: metadata.len(), state: State::of(metadata) })
}

fn not_utf8(path: &Path) -> String {
    format!("the name of {} is not UTF-8; rename it", path.display())
}

/// Fails with the first file that is not as it was when it was found.
pub fn check_unchanged(sources: &[Source]) -> Result<()> {
    for source in sources {
        let now = fs::metadata(&source.file);
        if now.ok().as_ref().map(State::of) != Some(source.state) {
            bail!("{} changed while it was read; try again", source.file.display());
        }
    }
    Ok(())
}
