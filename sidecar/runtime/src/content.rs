//! containerd's content store (`containerd.services.content.v1`): which blobs are there. They are read as files, not through here.

use std::path::{Path, PathBuf};

use crate::connection::{CALL_TIMEOUT, Runtime};
use crate::error::Error;
use crate::messages::containerd::{InfoRequest, InfoResponse, ListContentRequest, ListContentResponse};

/// A blob in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `sha256:...`
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

impl Runtime {
    /// A blob's length in bytes, if it is there and whole.
    pub async fn content(&self, digest: &str) -> Result<Option<u64>, Error> {
        let question = InfoRequest { digest: digest.to_owned() };
        let answer: Result<InfoResponse, Error> =
            self.call("/containerd.services.content.v1.Content/Info", question, Some(CALL_TIMEOUT)).await;
        match answer {
            Ok(answer) => Ok(answer.info.map(|info| length(info.size))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All blobs.
    pub async fn contents(&self) -> Result<Vec<Content>, Error> {
        const METHOD: &str = "/containerd.services.content.v1.Content/List";
        let listing = async {
            let mut answers = self.stream::<_, ListContentResponse>(METHOD, ListContentRequest {}).await?;
            let mut found = Vec::new();
            while let Some(answer) = answers.message().await.map_err(|status| self.failed(METHOD, &status))? {
                found.extend(
                    answer
                        .info
                        .into_iter()
                        .map(|info| Content { digest: info.digest, size: length(info.size) }),
                );
            }
            Ok(found)
        };
        let ended = tokio::time::timeout(CALL_TIMEOUT, listing).await;
        ended.map_err(|_| Error::Timeout { method: METHOD, limit: CALL_TIMEOUT })?
    }
}

/// Where containerd keeps the blob of `digest` (`sha256:<hex>`), below its root folder (`/var/lib/containerd`); none if that is no digest.
pub fn content_path(root: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex =
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    is_hex.then(|| content_folder(root).join("blobs/sha256").join(hex))
}

/// containerd's content store below its root folder.
pub fn content_folder(root: &Path) -> PathBuf {
    root.join("io.containerd.content.v1.content")
}

fn length(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
