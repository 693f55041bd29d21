//! Benchmarks: ratios against a peer in the same run. What they found is in docs/benchmarks.md, with the commands.

mod flash_crowd;
mod hashing;
mod report;
mod scale;
mod speed;
mod swarm;

pub use flash_crowd::{FlashCrowd, flash_crowd};
pub use hashing::{Create, create};
pub use report::{Report, Run};
pub use scale::{Scale, scale};
pub use speed::{Program, Speeds};
