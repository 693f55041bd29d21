//! `samara torrent`: making, checking, showing and changing .torrent files.

mod create;
mod edit;
pub mod glob;
pub mod magnet;
mod pieces;
mod show;
mod sources;
mod target;
mod verify;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use torrent::{Limits, Metainfo, RelPath};

pub use create::{made, own_name};
pub use pieces::Watch;
pub use sources::{Source, State, sources};
pub use target::Target;
pub use verify::{check, folder_of, places};

/// Make, check, show and change .torrent files.
#[derive(Debug, Args)]
pub struct TorrentArgs {
    #[command(subcommand)]
    command: TorrentCommand,
}

#[derive(Debug, Subcommand)]
enum TorrentCommand {
    Create(Box<create::CreateArgs>),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    Magnet(magnet::MagnetArgs),
    Edit(edit::EditArgs),
}

/// Runs one of them. An error of `verify` is exit code 2, since 1 means that the files differ.
pub fn run(args: TorrentArgs) -> Result<ExitCode> {
    let done = match args.command {
        TorrentCommand::Create(args) => create::run(&args),
        TorrentCommand::Show(args) => show::run(&args),
        TorrentCommand::Magnet(args) => magnet::run(&args),
        TorrentCommand::Edit(args) => edit::run(&args),
        TorrentCommand::Verify(args) => {
            return verify::run(&args).or_else(|error| {
                crate::output::forgive_broken_pipe(error).map(|()| ExitCode::SUCCESS).or_else(|error| {
                    crate::output::say(&daemon::error_line(&error));
                    Ok(ExitCode::from(2))
                })
            });
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Reads a .torrent file, or standard input if it is `-`. Local files may be as large as our own.
pub fn read_metainfo(path: &Path) -> Result<Metainfo> {
    let (bytes, name) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let most = Limits::OWN.bencode.bytes as u64 + 1;
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("cannot read standard input")?;
        (bytes, "standard input".into())
    } else {
        (
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
            path.display().to_string(),
        )
    };
    Metainfo::parse(&bytes, &Limits::OWN).with_context(|| format!("{name} is not a usable torrent"))
}

/// Where the payload files of a torrent lie below the folder that the user names: a single file under its name, the files of
/// a tree directly.
pub fn layout(metainfo: &Metainfo) -> Vec<RelPath> {
    metainfo.files().iter().map(|file| file.path.clone()).collect()
}
