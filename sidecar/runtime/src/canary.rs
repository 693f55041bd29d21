//! The proof that the runtime asks our mirror: a pull that only it can answer.

use std::time::Duration;

use crate::connection::Runtime;
use crate::error::Error;

/// A runtime that asks the mirror needs a fifth of a second; one that does not may wait for a resolver.
const LIMIT: Duration = Duration::from_secs(15);

/// Whether pulls go through the mirror.
#[derive(Debug)]
pub enum Canary {
    /// They do: `_default` of the runtime's hosts files leads to it. Says nothing of registries with a folder of their own.
    Sings,
    /// They do not, for this reason of the runtime's.
    Silent(Error),
}

impl Runtime {
    /// Pulls `reference`, an image that only the mirror has and under a tag that was never used, and removes it again. An error is one of
    /// the runtime itself, which leaves the question open.
    pub async fn canary(&self, reference: &str) -> Result<Canary, Error> {
        let pulled = tokio::time::timeout(LIMIT, self.pull_any(reference)).await;
        match pulled.unwrap_or(Err(Error::Timeout { method: "PullImage", limit: LIMIT })) {
            Ok(_) => {
                self.remove_image(reference).await?;
                Ok(Canary::Sings)
            }
            Err(error @ Error::Unreachable { .. }) => Err(error),
            Err(error) => Ok(Canary::Silent(error)),
        }
    }
}
