//! The files with lists of torrents.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use torrent::WireId;

use crate::limits::MAX_LIST_BYTES;
use crate::lists::{self, LineError, Lists};

/// Options about [`Lists`].
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ListArgs {
    /// File with infohashes to serve though nobody registered them, one in a line. SIGHUP reads it again
    #[arg(long, env = "SAMARA_TRACKER_ALLOW", value_name = "FILE")]
    pub(super) allow: Option<PathBuf>,

    /// File with infohashes never to serve, whoever registered them. SIGHUP reads it again
    #[arg(long, env = "SAMARA_TRACKER_DENY", value_name = "FILE")]
    deny: Option<PathBuf>,
}

/// Why a list is refused.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("cannot read the list {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is wrong.
    #[error("{path}, line {line}: {error}")]
    Line {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        error: LineError,
    },
}

impl ListArgs {
    /// Whether there is any file to read.
    pub(crate) fn any(&self) -> bool {
        self.allow.is_some() || self.deny.is_some()
    }

    /// Reads both files, which takes a moment where they are long: not for an async thread.
    ///
    /// # Errors
    /// See [`ListError`].
    pub(crate) fn read(&self) -> Result<Lists, ListError> {
        Ok(Lists { allowed: read(self.allow.as_deref())?, denied: read(self.deny.as_deref())? })
    }
}

fn read(path: Option<&Path>) -> Result<HashSet<WireId>, ListError> {
    let Some(path) = path else { return Ok(HashSet::new()) };
    let named = || path.display().to_string();
    let list = read_bounded(path).map_err(|source| ListError::Read { path: named(), source })?;
    lists::parse(&list).map_err(|(line, error)| ListError::Line { path: named(), line, error })
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut list = Vec::new();
    std::fs::File::open(path)?.take(MAX_LIST_BYTES + 1).read_to_end(&mut list)?;
    if list.len() as u64 > MAX_LIST_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MAX_LIST_BYTES} bytes")));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_list_names_the_file() {
        let missing = ListArgs { allow: Some("/nowhere/list".into()), deny: None };
        assert_eq!(missing.read().unwrap_err().to_string(), "cannot read the list /nowhere/list");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# one\ntwo\n").unwrap();
        let wrong = ListArgs { allow: None, deny: Some(file.path().to_owned()) };
        let said = wrong.read().unwrap_err().to_string();
        assert!(said.starts_with(&format!("{}, line 2: not an infohash", file.path().display())), "{said}");
        file.as_file().set_len(MAX_LIST_BYTES + 1).unwrap();
        assert!(matches!(wrong.read(), Err(ListError::Read { .. })), "it is too large");
    }
}
