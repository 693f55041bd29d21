//! Reading files piece by piece and hashing them, on all processors.
//!
//! Pieces are handed out in order, a few at a time, so a disk is read from front to back and the kernel's read-ahead works.
//! Every thread keeps a buffer of 128 KiB and one open file; the results are some 60 bytes for each piece.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use torrent::{PieceHasher, PieceHashes, PieceMap, Segment, Sides};

/// Bytes read at once: they are still in the second-level cache when they are hashed.
const CHUNK: usize = 128 * 1024;
/// Payload that a thread takes at a time, if pieces are smaller.
const TURN: u64 = 4 << 20;

/// Hears of the work, from all threads.
pub trait Watch: Sync {
    /// So many bytes of payload were hashed.
    fn advance(&self, bytes: u64);
}

/// What to read.
pub struct Reading<'a> {
    /// Where pieces lie.
    pub pieces: &'a PieceMap,
    /// Where each file of the torrent is.
    pub files: &'a [PathBuf],
    /// Bytes that each has; pieces that reach over them are not read. `None`: there is no such file.
    pub lengths: &'a [Option<u64>],
    /// Which hashes to compute.
    pub sides: Sides,
    /// Threads, at least one.
    pub threads: usize,
    /// Who hears of it.
    pub watch: &'a dyn Watch,
}

/// As many threads as there are processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Reading<'_> {
    /// The hashes of the wanted pieces, in their order. `None`: a file is missing or too short.
    pub fn hash(&self, wanted: &[u32]) -> Result<Vec<Option<PieceHashes>>> {
        let turn = (TURN / self.pieces.piece_length()).max(1) as usize;
        let turns: Vec<&[u32]> = wanted.chunks(turn).collect();
        let (next, failed, zeros) = (AtomicUsize::new(0), AtomicBool::new(false), OnceLock::new());
        let work = || -> Result<Vec<(usize, Vec<Option<PieceHashes>>)>> {
            let mut worker = Worker { reading: self, zeros: &zeros, buffer: vec![0; CHUNK], open: None };
            let mut done = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(pieces) = turns.get(index) else { break };
                let hashes = pieces.iter().map(|piece| worker.hash(*piece)).collect::<Result<_>>();
                failed.fetch_or(hashes.is_err(), Ordering::Relaxed);
                done.push((index, hashes?));
            }
            Ok(done)
        };
        let threads = self.threads.clamp(1, turns.len().max(1));
        let mut done = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let done: Result<Vec<_>> =
                workers.into_iter().map(|worker| worker.join().expect("hashing does not panic")).collect();
            done.map(|done| done.into_iter().flatten().collect::<Vec<_>>())
        })?;
        done.sort_unstable_by_key(|(index, _)| *index);
        Ok(done.into_iter().flat_map(|(_, hashes)| hashes).collect())
    }
}

struct Worker<'a> {
    reading: &'a Reading<'a>,
    /// The hashes of a whole piece of zeros.
    zeros: &'a OnceLock<PieceHashes>,
    buffer: Vec<u8>,
    open: Option<Open>,
}

struct Open {
    index: usize,
    file: File,
    /// Whether the file system stores less than the file has.
    sparse: bool,
}

impl Worker<'_> {
    fn hash(&mut self, piece: u32) -> Result<Option<PieceHashes>> {
        let reading = self.reading;
        let mut hasher = reading.pieces.hasher(piece, reading.sides);
        let mut at = 0;
        for segment in reading.pieces.segments(piece) {
            let end = segment.offset_in_file + u64::from(segment.len);
            if reading.lengths[segment.file].is_none_or(|size| size < end) {
                return Ok(None);
            }
            // Padding inside a v1 piece.
            hasher.update_zeros(segment.offset_in_piece - at);
            at = segment.offset_in_piece + segment.len;
            if self.is_hole(&segment)? {
                if u64::from(segment.len) == reading.pieces.piece_length() {
                    reading.watch.advance(segment.len.into());
                    return Ok(Some(self.zero_piece(hasher)));
                }
                hasher.update_zeros(segment.len);
                reading.watch.advance(segment.len.into());
            } else {
                self.read(&segment, &mut hasher)?;
            }
        }
        Ok(Some(hasher.finish()))
    }

    /// A piece of zeros is known by its hash: only the first is computed.
    fn zero_piece(&self, mut hasher: PieceHasher) -> PieceHashes {
        *self.zeros.get_or_init(|| {
            hasher.update_zeros(self.reading.pieces.piece_length() as u32);
            hasher.finish()
        })
    }

    fn read(&mut self, segment: &Segment, hasher: &mut PieceHasher) -> Result<()> {
        self.open(segment.file)?;
        let Some(open) = &self.open else { bail!("a file was opened and is not open") };
        let path = &self.reading.files[segment.file];
        let mut done = 0;
        while done < segment.len {
            let part = &mut self.buffer[..CHUNK.min((segment.len - done) as usize)];
            let count = open.file.read_at(part, segment.offset_in_file + u64::from(done));
            let count = count.with_context(|| cannot_read(path))?;
            if count == 0 {
                bail!("{} changed while it was read; try again", path.display());
            }
            hasher.update(&part[..count]);
            self.reading.watch.advance(count as u64);
            done += count as u32;
        }
        Ok(())
    }

    /// Whether nothing is stored there: the bytes are zeros.
    fn is_hole(&mut self, segment: &Segment) -> Result<bool> {
        self.open(segment.file)?;
        let Some(open) = self.open.as_ref().filter(|open| open.sparse) else { return Ok(false) };
        let end = segment.offset_in_file + u64::from(segment.len);
        match rustix::fs::seek(&open.file, rustix::fs::SeekFrom::Data(segment.offset_in_file)) {
            Ok(data) => Ok(data >= end),
            Err(rustix::io::Errno::NXIO) => Ok(true),
            // A file system that cannot tell: its bytes are read.
            Err(_) => Ok(false),
        }
    }

    fn open(&mut self, index: usize) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| open.index == index) {
            return Ok(());
        }
        let path = &self.reading.files[index];
        let file = File::open(path).with_context(|| cannot_read(path))?;
        let metadata = file.metadata().with_context(|| cannot_read(path))?;
        let sparse = metadata.blocks() * 512 < metadata.len();
        // Advice that is not taken costs speed only.
        let _advised = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential).is_ok();
        self.open = Some(Open { index, file, sparse });
        Ok(())
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
