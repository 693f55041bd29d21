//! Whether a node really has the bytes: every published file is read from disk and hashed.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};

use crate::digest;

/// Fails unless `dataset` holds exactly the `expected` files, byte for byte.
pub fn verify(dataset: &Path, expected: &BTreeMap<String, [u8; 32]>) -> Result<()> {
    let mut found = Vec::new();
    list(dataset, "", &mut found).with_context(|| format!("cannot read {}", dataset.display()))?;
    if let Some(stranger) = found.iter().find(|path| !expected.contains_key(*path)) {
        bail!("{stranger} does not belong to the dataset");
    }
    for (path, digest) in expected {
        if !found.contains(path) {
            bail!("{path} is missing");
        }
        if digest::of_file(&dataset.join(path)).with_context(|| format!("cannot read {path}"))? != *digest {
            bail!("{path} does not have the origin's bytes");
        }
    }
    Ok(())
}

fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{prefix}{}", name.to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{path}/"), found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn exactly_the_files_with_exactly_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/a"), "x").unwrap();
        let digest = |bytes: &str| Sha256::digest(bytes).into();
        let expected =
            |files: &[(&str, &str)]| files.iter().map(|(p, b)| ((*p).to_owned(), digest(b))).collect();
        let check =
            |files: &[(&str, &str)]| verify(folder.path(), &expected(files)).map_err(|e| e.to_string());
        assert_eq!(check(&[("d/a", "x")]), Ok(()));
        assert!(check(&[("d/a", "y")]).unwrap_err().contains("origin's bytes"));
        assert!(check(&[("d/a", "x"), ("b", "")]).unwrap_err().contains("missing"));
        assert!(check(&[]).unwrap_err().contains("does not belong"));
    }
}
