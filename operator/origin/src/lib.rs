//! Reading origins over HTTP, guarded: where one may connect, whom one may follow.
//!
//! An origin's URL comes from a user, so it is an instruction from outside to a process with more rights than the user has.
//! [`Origin`] connects only where [`OriginPolicy`](operator_api::OriginPolicy) lets it, on every hop of a redirect and with
//! the very address that was checked; it never follows from `https` to `http`, uses no proxy of its environment, asks for no
//! encoding and takes none. What it reads is held against what was resolved: validator, length, position.
//!
//! | call | what for |
//! |---|---|
//! | [`Origin::probe`] | what a URL stands for now: size and validators |
//! | [`Origin::get_small`] | a document that has to fit into memory |
//! | [`Origin::read`] | the bytes of a file, from any position, checked |
//! | [`registry`] | container images: what a reference stands for, and what opens a repository |
//!
//! Errors carry a condition's reason ([`OriginError::reason`]) and messages that show neither queries nor user names.

mod access;
mod client;
mod error;
mod guard;
mod pace;
mod probe;
mod read;
mod redact;
pub mod registry;
mod resolve;
#[cfg(test)]
mod tests;
mod tls;

pub use access::Access;
pub use client::{MAX_REDIRECTS, Options, Origin, Timeouts};
pub use error::OriginError;
pub use guard::{Guard, HostRules, PolicyError};
pub use pace::Pace;
pub use probe::Probe;
pub use read::{Body, ReadRange, Validator};
pub use redact::redact;
