//! Reading an origin once: every byte is written where it belongs and hashed while it is hot.

mod connection;
mod digests;
mod error;
mod file;
mod granted;
mod growing;
mod hold;
mod job;
mod journal;
mod read;
mod reader;
mod retries;
mod reuse;
mod sink;
mod stripes;
#[cfg(test)]
mod tests;
mod witness;

pub use digests::of as file_digests;
pub use error::FetchError;
pub use granted::{check_grant, warrant};
pub use growing::{fetch_growing, granted_outline};
pub use job::fetch;
pub use journal::Journal;
pub use read::{Counters, MAX_FILES, Whole, read_all};
pub use reader::{ReadTask, Reader};
pub use reuse::{Found, Reuse, Shared};
pub use stripes::Seat;
pub use witness::{watch, witness};
