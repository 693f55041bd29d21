//! The token of the sidecar's ServiceAccount.

use std::fmt;
use std::path::PathBuf;

/// The largest token that is read, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;

/// Where the token comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// A file that the kubelet renews: read each time.
    File(PathBuf),
    /// This one.
    Fixed(String),
}

/// The token cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the token {path}: {why}; is the projected volume mounted?")]
pub struct TokenError {
    path: PathBuf,
    why: String,
}

impl TokenSource {
    /// The token as it is now.
    pub async fn read(&self) -> Result<String, TokenError> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::File(path) => {
                let fail = |why: String| TokenError { path: path.clone(), why };
                let size = tokio::fs::metadata(path).await.map_err(|error| fail(error.to_string()))?.len();
                if size > MAX_TOKEN {
                    return Err(fail(format!("over {MAX_TOKEN} bytes")));
                }
                let token = tokio::fs::read_to_string(path).await.map_err(|error| fail(error.to_string()))?;
                match token.trim() {
                    "" => Err(fail("it is empty".into())),
                    token => Ok(token.to_owned()),
                }
            }
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Fixed(_) => f.write_str("Fixed(..)"),
        }
    }
}
