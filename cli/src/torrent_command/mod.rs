//! `samara torrent`: making and inspecting .torrent files.

mod create;
mod hashing;
mod show;
mod verify;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use torrent::{Limits, Metainfo, RelPath};

/// Make and inspect .torrent files.
#[derive(Debug, Args)]
pub struct TorrentArgs {
    #[command(subcommand)]
    command: TorrentCommand,
}

#[derive(Debug, Subcommand)]
enum TorrentCommand {
    Create(create::CreateArgs),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
}

/// Runs one of them.
pub fn run(args: TorrentArgs) -> Result<()> {
    match args.command {
        TorrentCommand::Create(args) => create::run(&args),
        TorrentCommand::Show(args) => show::run(&args),
        TorrentCommand::Verify(args) => verify::run(&args),
    }
}

/// Reads a .torrent file. Local files may be as large as our own.
pub fn read_metainfo(path: &Path) -> Result<Metainfo> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Metainfo::parse(&bytes, &Limits::OWN)
        .with_context(|| format!("{} is not a usable torrent", path.display()))
}

/// Where the payload files of a torrent lie below the folder that the user names: a single file under its name, the files of
/// a tree directly.
pub fn layout(metainfo: &Metainfo) -> Vec<RelPath> {
    metainfo.files().iter().map(|file| file.path.clone()).collect()
}

pub use create::metainfo_of;
pub use hashing::{Source, sources};
pub use verify::{check, places};
