//! Reading an origin once: every byte is written where it belongs and hashed while it is hot.

mod connection;
mod digests;
mod error;
mod file;
mod growing;
mod hold;
mod job;
mod journal;
mod read;
mod reader;
mod reuse;
mod sink;
mod stripes;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use error::FetchError;
pub use growing::{fetch_growing, granted_outline};
pub use job::fetch;
pub use journal::Journal;
pub use read::{Counters, MAX_FILES, Whole, check_grant, read_all};

/// The longest pause within a fetch; whoever asks for more makes it fail and be tried again later.
const MAX_PAUSE: Duration = Duration::from_secs(10);
