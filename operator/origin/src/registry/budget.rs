//! How much is asked of a registry for one image, whatever it answers (T92).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The most requests: 64 documents, the tag, and what opens the repository, several times where tokens are short-lived. Each document,
/// each try with a login and each token is one; what redirects lead to belongs to it.
pub(super) const MAX_REQUESTS: usize = 192;
/// The most bytes of all answers together: documents twice what an image may have, a configuration, tokens.
pub(super) const MAX_BYTES: u64 = 32 << 20;

/// What was asked and read so far, of one registry for one image.
#[derive(Debug, Default)]
pub(super) struct Budget {
    requests: AtomicUsize,
    bytes: AtomicU64,
}

impl Budget {
    /// Counts a request before it is sent; says why it must not be.
    pub fn ask(&self) -> Result<(), String> {
        if self.requests.fetch_add(1, Ordering::Relaxed) < MAX_REQUESTS {
            return Ok(());
        }
        Err(format!(
            "it takes more than {MAX_REQUESTS} requests: name its platforms, or see why the registry asks for credentials again and again"
        ))
    }

    /// So many bytes may still be read.
    pub fn left(&self) -> u64 {
        MAX_BYTES.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// Counts what was read.
    pub fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
