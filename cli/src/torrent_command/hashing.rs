//! Hashing files into a torrent.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use torrent::{Builder, FileHashes, Metainfo, RelPath};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// A file to put into a torrent.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub file: PathBuf,
    /// What it is called in the torrent.
    pub path: RelPath,
    /// Bytes, as they were when it was found.
    pub size: u64,
}

/// The files under `root`, ascending by path; `root` itself if it is a file. Links and special files are refused: a torrent
/// made of what they point to would surprise someone.
pub fn sources(root: &Path) -> Result<Vec<Source>> {
    let metadata = fs::metadata(root).with_context(|| format!("cannot read {}", root.display()))?;
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(root, &mut Vec::new(), &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
    } else {
        let name = root.file_name().context("the path names no file")?;
        found.push(source(
            root,
            &[name.to_str().with_context(|| not_utf8(root))?.to_owned()],
            metadata.len(),
        )?);
    }
    if found.is_empty() {
        bail!("{} holds no files", root.display());
    }
    Ok(found)
}

fn walk(folder: &Path, above: &mut Vec<String>, found: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        above.push(entry.file_name().to_str().with_context(|| not_utf8(&path))?.to_owned());
        if kind.is_dir() {
            walk(&path, above, found)?;
        } else if kind.is_file() {
            found.push(source(&path, above, entry.metadata()?.len())?);
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

fn source(file: &Path, components: &[String], size: u64) -> Result<Source> {
    let path = RelPath::from_components(components.iter().map(String::as_bytes))
        .with_context(|| format!("{} cannot be in a torrent", file.display()))?;
    Ok(Source { file: file.to_owned(), path, size })
}

fn not_utf8(path: &Path) -> String {
    format!("the name of {} is not UTF-8; rename it", path.display())
}

/// The torrent of these files, read once (v1-only with several files: twice), on as many threads as there are processors.
pub fn build(builder: Builder, sources: &[Source]) -> Result<Metainfo> {
    let builder = if builder.needs_v1_pass(sources.len()) {
        let mut hasher = builder.v1_hasher();
        for source in sources {
            read(source, |bytes| hasher.update(bytes))?;
        }
        builder.v1_pieces(hasher.finish())
    } else {
        builder
    };
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(sources.len())));
    let work = || -> Result<()> {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            let hashes = hash(&builder, source, sources.len())?;
            done.lock()
                .expect("no thread panics while it holds this lock")
                .push((source.path.clone(), hashes));
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(sources.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("hashing does not panic"))
    })?;
    let done = done.into_inner().expect("no thread panics while it holds this lock");
    builder.build(done).context("cannot make a torrent of these files")
}

fn hash(builder: &Builder, source: &Source, files: usize) -> Result<FileHashes> {
    let mut hasher = builder.file_hasher(files);
    read(source, |bytes| hasher.update(bytes))?;
    if hasher.size() != source.size {
        bail!("{} changed while it was read; try again", source.file.display());
    }
    Ok(hasher.finish())
}

fn read(source: &Source, mut take: impl FnMut(&[u8])) -> Result<()> {
    let context = || format!("cannot read {}", source.file.display());
    let mut file = File::open(&source.file).with_context(context)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(()),
            count => take(&buffer[..count]),
        }
    }
}
