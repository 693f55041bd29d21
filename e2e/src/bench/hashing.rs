//! Making and verifying torrents, beside the bare hashes and other programs, on the same files.
//!
//! The *floor* is SHA-1 and SHA-256 of a buffer that stays in the cache, over as many bytes as the format makes each of them
//! hash (padding included), on as many threads as there are processors: nothing is read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{hint, thread};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::speed::{Cost, Row, Speeds, bench, libtorrent, timed};
use crate::clients::is_installed;
use crate::payload;

/// The same for all programs.
const PIECE: u64 = 1 << 20;
/// What `mktorrent -l` calls it.
const PIECE_EXPONENT: &str = "20";
/// Stays in the first-level cache, as the bytes that a program has just read may.
const HOT: usize = 16 * 1024;

/// How it is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct Create {
    /// Bytes of the files in all, in MiB.
    #[arg(long, default_value_t = 4096)]
    pub size: u64,
    /// Files of the tree; their sizes are one to seven eighths of the double average.
    #[arg(long, default_value_t = 10_000)]
    pub files: u64,
    /// Rounds; in each, every program runs once.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// A folder to put the files in [default: one that is removed again].
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

/// Runs it: the report of one large file, and that of a tree.
pub fn create(shape: &Create) -> Result<Vec<Speeds>> {
    let temp = match &shape.folder {
        Some(folder) => TempDir::new_in(folder)?,
        None => TempDir::new()?,
    };
    let programs = Programs::build()?;
    let size = shape.size << 20;
    let one = Payload::lay_out(temp.path(), "one", vec![size])?;
    let mut reports = vec![one.compare(&programs, shape.runs)?, one.cold(&programs, shape.runs)?];
    fs::remove_dir_all(&one.folder)?;
    let average = size / shape.files.max(1);
    let sizes = (0..shape.files).map(|index| average * (1 + index % 7) / 4).collect();
    reports.push(Payload::lay_out(temp.path(), "tree", sizes)?.compare(&programs, shape.runs)?);
    Ok(reports)
}

/// The programs that take part; those that are missing are left out, aloud.
struct Programs {
    samara: PathBuf,
    mktorrent: bool,
    python: Option<PathBuf>,
}

impl Programs {
    fn build() -> Result<Self> {
        let mktorrent = is_installed("mktorrent");
        if !mktorrent {
            eprintln!("mktorrent is not installed, and left out");
        }
        Ok(Self {
            samara: build_samara()?,
            mktorrent,
            python: crate::python::libtorrent("create", &xtask::tools::target().join("tmp"))?,
        })
    }
}

/// The program as it is shipped.
pub(super) fn build_samara() -> Result<PathBuf> {
    let args = ["build", "--quiet", "--locked", "--release", "--workspace", "--bin", "samara"];
    xtask::tools::run(&mut xtask::tools::cargo(&args))?;
    Ok(xtask::tools::target().join("release/samara"))
}

/// Files to make a torrent of.
struct Payload {
    /// Holds `data`, and the torrents.
    folder: PathBuf,
    sizes: Vec<u64>,
}

impl Payload {
    fn lay_out(below: &Path, name: &str, sizes: Vec<u64>) -> Result<Self> {
        let payload = Self { folder: below.join(name), sizes };
        for (index, size) in payload.sizes.iter().enumerate() {
            let path = payload.file(index);
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            let mut file = File::create(path)?;
            payload::generate(index as u64, *size, |chunk| Ok(std::io::Write::write_all(&mut file, chunk)?))?;
            // Pages on their way to the disk would disturb what is measured, and could not be dropped.
            file.sync_data()?;
        }
        Ok(payload)
    }

    /// A hundred files in each folder, in the order of their names.
    fn file(&self, index: usize) -> PathBuf {
        self.folder.join(format!("data/{:04}/{index:06}", index / 100))
    }

    fn size(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// Bytes that SHA-1 covers in a hybrid of several files.
    fn padded(&self) -> u64 {
        self.sizes.iter().map(|size| size.next_multiple_of(PIECE)).sum()
    }

    fn compare(&self, programs: &Programs, runs: usize) -> Result<Speeds> {
        let threads = thread::available_parallelism()?.get();
        let (padded, size) = (self.padded(), self.size());
        self.make_hybrid(&programs.samara)?;
        let samara = &programs.samara;
        // What is compared follows on each other: a shared processor is not the same a minute later.
        let mut rows = vec![
            Row::new("floor: SHA-1, SHA-256", &[], move || Ok(floor(threads, padded, size))),
            Row::new(MAKES_HYBRID, MAKES_HYBRID_PEERS, move || self.make(samara, &["--hybrid"])),
            Row::new("samara verify", VERIFY_PEERS, || self.verify(samara, &[])),
        ];
        if let Some(python) = &programs.python {
            rows.push(Row::new("libtorrent make hybrid", &[], || self.libtorrent_make(python, "Hybrid")));
            // It hashes on half of the processors.
            let half = (threads / 2).max(1).to_string();
            rows.push(Row::new("... on half the threads", &["libtorrent make hybrid"], move || {
                self.make(samara, &["--hybrid", "-t", &half])
            }));
            rows.push(Row::new("libtorrent check hybrid", &[], || self.libtorrent_check(python)));
            rows.push(Row::new("libtorrent make v1", &[], || self.libtorrent_make(python, "V1")));
        }
        if programs.mktorrent {
            rows.push(Row::new("mktorrent (v1)", &[], move || self.mktorrent(threads)));
        }
        rows.push(Row::new(MAKES_V1, MAKES_V1_PEERS, move || self.make(samara, &["--v1"])));
        rows.push(Row::new("floor: SHA-1", &[], move || Ok(floor(threads, size, 0))));
        rows.push(Row::new("floor: SHA-256", &[], move || Ok(floor(threads, 0, size))));
        rows.push(Row::new("samara verify --v2", &["floor: SHA-256"], || self.verify(samara, &["--v2"])));
        self.run(&format!("warm, {threads} threads"), &rows, runs)
    }

    /// The same from a disk whose pages the kernel has forgotten, beside reading alone.
    fn cold(&self, programs: &Programs, runs: usize) -> Result<Speeds> {
        let rows = [
            Row::new("floor: read", &[], || {
                self.forget()?;
                timed(Command::new("cat").args((0..self.sizes.len()).map(|index| self.file(index))))
            }),
            Row::new(MAKES_HYBRID, &["floor: read"], || {
                self.forget()?;
                self.make(&programs.samara, &["--hybrid"])
            }),
        ];
        self.run("cold", &rows, runs)
    }

    fn run(&self, how: &str, rows: &[Row<'_>], runs: usize) -> Result<Speeds> {
        let what = format!("{} files, {} MiB, {how}", self.sizes.len(), self.size() >> 20);
        bench(what, Some(self.size()), rows, runs)
    }

    /// Lets the kernel forget the files' pages, which are clean.
    fn forget(&self) -> Result<()> {
        for index in 0..self.sizes.len() {
            let file = File::open(self.file(index))?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn make(&self, samara: &Path, options: &[&str]) -> Result<Cost> {
        let mut command = Command::new(samara);
        command.args(["torrent", "create"]).args(options).args(["-l", "1Mi", "--force", "-o"]);
        timed(command.arg(self.path("samara.torrent")).arg(self.path("data")))
    }

    /// A torrent to verify.
    fn make_hybrid(&self, samara: &Path) -> Result<()> {
        let _cost = self.make(samara, &["--hybrid"])?;
        Ok(fs::rename(self.path("samara.torrent"), self.path("hybrid.torrent"))?)
    }

    fn verify(&self, samara: &Path, options: &[&str]) -> Result<Cost> {
        let mut command = Command::new(samara);
        command.args(["torrent", "verify"]).args(options).arg("--data").arg(self.path("data"));
        timed(command.arg(self.path("hybrid.torrent")))
    }

    fn mktorrent(&self, threads: usize) -> Result<Cost> {
        let out = self.path("mktorrent.torrent");
        if out.exists() {
            fs::remove_file(&out)?;
        }
        let mut command = Command::new("mktorrent");
        command.args(["-l", PIECE_EXPONENT, "-t", &threads.to_string(), "-o"]).arg(out);
        timed(command.arg(self.path("data")))
    }

    /// Seconds of `set_piece_hashes` alone.
    fn libtorrent_make(&self, python: &Path, version: &str) -> Result<Cost> {
        let name = |index| self.file(index).strip_prefix(self.path("data")).map(Path::to_owned);
        let files = (0..self.sizes.len()).map(|index| Ok((name(index)?, self.sizes[index])));
        libtorrent(
            python,
            &json!({
                "do": "create", "folder": self.folder, "name": "data", "files": files.collect::<Result<Vec<_>>>()?,
                "single": false, "version": version, "piece_length": PIECE, "private": false,
                "out": self.path("libtorrent.torrent"),
            }),
        )
    }

    /// Seconds of a check of all files in a session, with a hashing thread for each processor.
    fn libtorrent_check(&self, python: &Path) -> Result<Cost> {
        libtorrent(
            python,
            &json!({
                "do": "check", "torrent": self.path("hybrid.torrent"), "folder": self.folder,
            }),
        )
    }
}

/// What the report calls the rows that are named twice or held against several.
const MAKES_HYBRID: &str = "samara create --hybrid";
const MAKES_V1: &str = "samara create --v1";

const MAKES_HYBRID_PEERS: &[&str] = &["floor: SHA-1, SHA-256", "libtorrent make hybrid"];
const MAKES_V1_PEERS: &[&str] = &["floor: SHA-1", "mktorrent (v1)", "libtorrent make v1"];
const VERIFY_PEERS: &[&str] = &["floor: SHA-1, SHA-256", "libtorrent check hybrid"];

/// What it takes to hash that many bytes of a buffer, shared out between threads.
fn floor(threads: usize, sha1_bytes: u64, sha256_bytes: u64) -> Cost {
    let share = |bytes: u64| bytes / HOT as u64 / threads as u64;
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let buffer = vec![1; HOT];
                let (mut sha1, mut sha256) = (Sha1::new(), Sha256::new());
                for turn in 0..share(sha1_bytes.max(sha256_bytes)) {
                    if turn < share(sha1_bytes) {
                        sha1.update(hint::black_box(&buffer));
                    }
                    if turn < share(sha256_bytes) {
                        sha256.update(hint::black_box(&buffer));
                    }
                }
                hint::black_box((sha1.finalize(), sha256.finalize()));
            });
        }
    });
    Cost { seconds: start.elapsed().as_secs_f64(), peak: None }
}
