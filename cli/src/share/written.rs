//! The .torrents that `--write-torrent` asks for.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use torrent::Metainfo;

use super::End;
use crate::torrent_command::Target;

/// Where they go, and which were written in this start.
pub struct Written<'a> {
    out: Option<&'a Path>,
    files: HashSet<PathBuf>,
}

impl<'a> Written<'a> {
    /// None yet, of so many torrents.
    pub fn to(out: Option<&'a Path>, torrents: usize) -> Result<Self> {
        let refusal = match out {
            Some(out) if out == Path::new("-") => {
                Some("--write-torrent needs a file or a folder: standard output has the links".to_owned())
            }
            Some(out) if torrents > 1 && !out.is_dir() => Some(format!(
                "--write-torrent {} has to be a folder that exists, for several torrents",
                out.display()
            )),
            _ => None,
        };
        match refusal {
            Some(why) => Err(End::Usage(why).into()),
            None => Ok(Self { out, files: HashSet::new() }),
        }
    }

    /// Writes one more, in the place of what was there before this start, and answers where it is.
    pub fn write(&mut self, metainfo: &Metainfo) -> Result<Option<PathBuf>> {
        let Some(out) = self.out else { return Ok(None) };
        let target = Target::new(Some(out), metainfo.name(), true)?;
        let file = target.file().unwrap_or(out).to_owned();
        if !self.files.insert(file.clone()) {
            bail!(
                "{} holds another torrent of the same name: share one of the two with a command of its own",
                file.display()
            );
        }
        target.write(&metainfo.encode())?;
        Ok(Some(file))
    }
}
