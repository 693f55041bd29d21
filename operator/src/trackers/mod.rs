//! The trackers of all classes: they are to hold the registry and the metainfo, and they tell how far the nodes are.

mod client;
mod registry;
mod round;
mod verify;

pub use client::{At, TrackerClient, TrackerError};
pub use registry::registry;
pub use round::{register, run, urls};
pub use verify::{Rejection, verify};
