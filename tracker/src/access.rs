//! The access log: a line for each announce, at the level `debug` under a target of its own, so that it is written only where somebody
//! asks for it (`--log info,tracker::access=debug`). Else it costs the look at a level.

use std::fmt;
use std::net::IpAddr;

use crate::directory::Refusal;
use crate::query::{Announce, Event};
use crate::swarm::Reply;

/// Writes the line of an announce from `source`. There is no credential in what it gets.
pub(crate) fn announced(source: IpAddr, announce: &Announce, answer: &Result<Reply, Refusal>) {
    tracing::debug!(
        target: "tracker::access",
        %source,
        port = announce.port,
        // In quotes, since anybody may write anything there.
        node = announce.node.as_deref(),
        infohash = %announce.info_hash,
        event = event(announce.event),
        left = announce.left,
        answer = %Answer(answer),
        "announce"
    );
}

fn event(event: Event) -> &'static str {
    match event {
        Event::None => "none",
        Event::Started => "started",
        Event::Completed => "completed",
        Event::Stopped => "stopped",
    }
}

/// An answer in a few words.
struct Answer<'a>(&'a Result<Reply, Refusal>);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(reply) => {
                let listed = if reply.listed { "" } else { ", not listed" };
                write!(f, "{} peers, {} s{listed}", reply.peers.len(), reply.interval)
            }
            Err(refusal) => refusal.fmt(f),
        }
    }
}
