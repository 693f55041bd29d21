//! The folder on the disk: what is whole, what is coming, and the links that users mount.
//!
//! ```text
//! <root>/.lock                     one sidecar at a time
//! <root>/.class.json               where trackers and operator were last seen
//! <root>/demand/<digest>/          data/ journal journal.hashes: blobs on demand, gone at the next start
//! <root>/incoming/<revision>/      data/ metainfo.torrent manifest.json revision.json journal fetch.journal
//! <root>/store/<revision>/         data/ metainfo.torrent manifest.json revision.json .complete
//! <root>/datasets/<ns>/<name>  ->  ../../store/<revision>/data
//! ```
//!
//! Deliberately synchronous: every call is a handful of system calls in an order that matters, callers wrap them in
//! `spawn_blocking`, and the tests can cut them anywhere.

mod content;
mod doubt;
mod error;
mod layout;
mod ledger;
mod link;
mod publish;
mod record;
mod reuse;
mod root;
mod scan;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod tree;

pub use content::{ContentStore, is_blob};
pub use doubt::{doubt, is_whole};
pub use error::{StoreError, is_full};
pub use layout::{COMPLETE, DATA, Folder, Layout, safe_name};
pub use ledger::Ledger;
pub use link::{LinkState, link, link_state, unlink};
pub use publish::{Step, publish, publish_steps};
pub use record::{Record, read_file_capped, write_durably};
pub use reuse::{Content, Donors, Reused, reuse_files};
pub use root::Root;
pub use scan::{Found, clean_leftovers, remove, retain, scan, scan_one, withdraw};
pub use shared::shared_bytes;
pub use space::{SpaceError, allocated, disk_space, free_bytes};
pub use tree::{open_beneath, remove_sealed, remove_tree, seal, sync_tree, unseal};
