//! Benchmarks: ratios against a peer in the same run. What they found is in docs/benchmarks.md, with the commands.

mod flash_crowd;
mod report;
mod swarm;

pub use flash_crowd::{FlashCrowd, flash_crowd};
pub use report::{Report, Run};
