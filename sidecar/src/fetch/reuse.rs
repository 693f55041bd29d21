//! Files with a declared digest that another revision of this node has: they are linked, and read at no origin.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::FetchError;
use super::file::parse_sha256;
use super::reader::Reader;
use crate::store::{Donors, StoreError, remove_tree};

impl Reader {
    /// Links what is here, and vouches for it as if it had been read.
    pub(super) async fn reuse(&self) -> Result<(), FetchError> {
        if self.files.iter().all(|file| file.sha256.is_none()) {
            return Ok(());
        }
        let (layout, revision) = (self.layout.clone(), self.revision.clone());
        let gather = tokio::task::spawn_blocking(move || Donors::gather(&layout, &revision));
        let mut donors = gather.await.map_err(|_| FetchError::Stopped)?;
        for (index, file) in self.files.iter().enumerate() {
            let declared = file.sha256.as_deref().and_then(parse_sha256);
            let Some(content) = declared.map(|sha256| (sha256, file.size)).filter(|file| donors.has(file))
            else {
                continue;
            };
            let pieces = self.map().of_file(index);
            // Nothing of it may be here or on its way: what is linked is not written to.
            if pieces.is_empty() || self.handle.unread(pieces.clone()) < pieces.len() as u32 {
                continue;
            }
            let path = self.data.join(self.outline.plan().files()[index].0.as_str());
            let link = tokio::task::spawn_blocking(move || {
                let linked = link(&donors, content, &path);
                (donors, linked)
            });
            let (back, linked) = link.await.map_err(|_| FetchError::Stopped)?;
            donors = back;
            if linked? {
                for piece in pieces {
                    if self.handle.claim(piece..piece + 1).is_some() {
                        self.handle.adopt(&self.fetcher, piece).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Read at a time.
const READ: usize = 1 << 20;

/// Links a file from another revision; `false` if there is none, or it is not what its name says.
fn link(donors: &Donors, content: ([u8; 32], u64), to: &Path) -> Result<bool, StoreError> {
    remove_tree(to)?;
    if !donors.link(&content, to)? {
        return Ok(false);
    }
    if digest(to)? == content.0 {
        return Ok(true);
    }
    // The other revision's file is damaged; it is not ours to repair it.
    remove_tree(to)?;
    Ok(false)
}

fn digest(path: &Path) -> Result<[u8; 32], StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; READ]);
    loop {
        match file.read(&mut buffer).map_err(StoreError::io("read", path))? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
