//! What is being done with each revision: one job at a time, each a task that can be stopped.

mod documents;
mod download;
mod elsewhere;
mod end;
mod evidence;
mod grow;
mod image;
mod keeper;
mod roles;
mod share;
mod simple;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod twin;

pub use share::share;
pub use simple::{remove_job, retain_job};
pub use state::{Context, JobHandle, JobState, Stopped, stoppable};
pub(crate) use steps::whole;
