//! Benchmarks: ratios against a peer in the same run. What they found is in docs/benchmarks.md, with the commands.

mod cost;
mod cost_report;
mod flash_crowd;
mod floors;
mod hashing;
mod idle;
mod ingest;
mod payload;
mod report;
mod scale;
mod speed;
mod swarm;
mod tracker;
mod tracker_load;
mod usage;

pub use cost::{Cost, cost};
pub use cost_report::{CostReport, Run as CostRun, Who};
pub use flash_crowd::{FlashCrowd, flash_crowd};
pub use hashing::{Create, create};
pub use idle::{Idle, IdleReport, IdleRun, idle};
pub use ingest::{Ingest, IngestReport, ingest};
pub use report::{Report, Run};
pub use scale::{Scale, scale};
pub use speed::{Program, Speeds};
pub use tracker_load::{LoadReport, TrackerLoad, announce, tracker_load};
