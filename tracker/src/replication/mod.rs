//! Trackers of a class tell each other what they hear, over one stream each way; there is no database between them.
//!
//! Whoever starts subscribes to its siblings. Each first sends all that it knows, then every 50 ms what has changed. Nobody passes
//! on what it did not hear itself, so every tracker subscribes to all others. Of two words about a peer the later one counts
//! ([`crate::peer::Peer::outdates`]); so it does not matter in which order they come, or how often. Once a minute, and when the
//! registry has changed, a subscriber sends a digest of what it knows and gets again what differs.
//!
//! * [`frame`] is what goes over the wire, pure; [`clock`] turns a sibling's time into one's own, pure.
//! * `publish` is the side that tells, `subscribe` the side that listens.

pub mod clock;
pub mod frame;
mod publish;
mod request;
mod stream;
mod subscribe;

use std::time::Duration;

pub(crate) use publish::{News, publish, publish_until};
pub(crate) use request::Sibling;
pub use request::SiblingError;
pub(crate) use subscribe::subscribe_until;

/// Changes are collected for so long: with the way over the wire a peer's word is at most 100 ms old at the siblings.
pub(crate) const FLUSH: Duration = Duration::from_millis(50);
/// The protocol, as it stands in `Upgrade`. Another version is another name, and siblings that do not know it do not talk.
pub(crate) const PROTOCOL: &str = "samara-replication/1";
/// A stream on which nothing else comes carries a sign of life so often.
pub(crate) const ALIVE: Duration = Duration::from_secs(5);
/// A stream on which nothing came for so long is given up.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
