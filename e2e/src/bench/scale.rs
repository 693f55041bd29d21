//! Torrents of very many files and pieces.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use torrent::{Limits, Metainfo};

use super::speed::{Cost, Row, Speeds, bench, libtorrent, timed};

/// The smallest pieces make the most of them.
const PIECE: u64 = 16 * 1024;
/// Bytes of a file without bytes.
const HOLE: u64 = 2 << 40;

/// How it is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct Scale {
    /// Files with a few bytes, each a piece.
    #[arg(long, default_value_t = 100_000)]
    pub files: u64,
    /// Pieces in all: those that the small files do not make are a hole in a large one.
    #[arg(long, default_value_t = 1_000_000)]
    pub pieces: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// Runs it.
pub fn scale(shape: &Scale) -> Result<Vec<Speeds>> {
    let temp = TempDir::new()?;
    let samara = super::hashing::build_samara()?;
    let python = crate::python::libtorrent("scale", &xtask::tools::target().join("tmp"))?;
    lay_out(&temp.path().join("data"), shape)?;
    File::create(temp.path().join("hole"))?.set_len(HOLE)?;

    let torrent = temp.path().join("it.torrent");
    let data = temp.path().join("data");
    let run = |args: &[&str], paths: &[&PathBuf]| {
        timed(Command::new(&samara).arg("torrent").args(args).args(paths))
    };
    let create = ["create", "-l", "16Ki", "--force", "-o"];
    let mut rows = vec![
        Row::new("samara create", &[], || run(&create, &[&torrent, &data])),
        Row::new("samara show --files", &[], || run(&["show", "--files"], &[&torrent])),
        Row::new("samara verify", &[], || run(&["verify", "--data"], &[&data, &torrent])),
    ];
    if let Some(python) = &python {
        let parse = || libtorrent(python, &json!({"do": "parse", "torrent": torrent}));
        rows.push(Row::new("libtorrent parse", &[], parse));
    }
    rows.push(Row::new("samara parse", &["libtorrent parse"], || parse(&torrent)));
    let (hole, out) = (temp.path().join("hole"), temp.path().join("hole.torrent"));
    let what = format!("{} files and one, {} pieces of 16 KiB, hybrid", shape.files, shape.pieces);
    let many = bench(what, None, &rows, shape.runs)?;
    let hole = [Row::new("samara create", &[], || run(&["create", "--force", "-o"], &[&out, &hole]))];
    Ok(vec![many, bench("2 TiB of nothing, hybrid".to_owned(), None, &hole, shape.runs)?])
}

/// Folders of a hundred files, and one file of nothing that makes the rest of the pieces.
fn lay_out(data: &Path, shape: &Scale) -> Result<()> {
    for index in 0..shape.files {
        let path = data.join(format!("{:05}/{index:07}", index / 100));
        if index % 100 == 0 {
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        }
        fs::write(path, index.to_string())?;
    }
    fs::create_dir_all(data)?;
    File::create(data.join("large"))?.set_len(shape.pieces.saturating_sub(shape.files) * PIECE)?;
    Ok(())
}

/// In this process.
fn parse(torrent: &Path) -> Result<Cost> {
    let bytes = fs::read(torrent)?;
    let start = Instant::now();
    let metainfo = Metainfo::parse(&bytes, &Limits::OWN)?;
    let seconds = start.elapsed().as_secs_f64();
    drop(metainfo);
    Ok(Cost { seconds, peak: None })
}
