//! Where a .torrent is written to.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Standard output or a file, which is there whole or not at all.
pub struct Target {
    /// `None`: standard output.
    file: Option<PathBuf>,
    replace: bool,
}

impl Target {
    /// What `-o` means for a torrent of that name. A file that is there already is an error before any work is done.
    pub fn new(output: Option<&Path>, name: &str, replace: bool) -> Result<Self> {
        let default = PathBuf::from(format!("{name}.torrent"));
        let file = match output {
            Some(path) if path == Path::new("-") => None,
            Some(path) if path.is_dir() => Some(path.join(default)),
            Some(path) => Some(path.to_owned()),
            None => Some(default),
        };
        match &file {
            None if std::io::stdout().is_terminal() => {
                bail!("a .torrent is not for a terminal: name a file with -o, or redirect the output")
            }
            Some(file) if !replace && file.exists() => {
                bail!("{} is there already: -f replaces it, -o names another one", file.display())
            }
            _ => Ok(Self { file, replace }),
        }
    }

    /// In the place of this file.
    pub fn replacing(file: &Path) -> Self {
        Self { file: Some(file.to_owned()), replace: true }
    }

    /// Whether it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// The file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Writes it.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(std::io::stdout().lock().write_all(bytes)?) };
        let context = || format!("cannot write {}", file.display());
        let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let mut new = builder.permissions(mode).tempfile_in(folder).with_context(context)?;
        new.write_all(bytes).with_context(context)?;
        let kept = if self.replace { new.persist(file) } else { new.persist_noclobber(file) };
        kept.map_err(|error| error.error).with_context(context).map(drop)
    }
}
