//! The API server's side: what is watched, and what is written.

mod gate;
mod mirror;
mod report;

pub use gate::{Change, Gate};
pub use mirror::{Mirror, mirror};
pub use report::{Report, Reporter};
