//! `GET /v1/swarms/watch`: how a swarm goes, line by line.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, interval};
use torrent::WireId;
use tracker_api::SwarmChange;

use crate::query;
use crate::registry::wire_id;
use crate::tracker::{self, Tracker};
use crate::watch::Watch;

/// How often it is looked whether there is something to say.
const LOOK: Duration = Duration::from_secs(1);

/// A line in each second in which something has changed. It ends with the reader, with the swarm, or with the tracker.
pub(super) async fn watch(State(tracker): State<Tracker>, RawQuery(query): RawQuery) -> Response {
    let state = Arc::clone(&tracker.0);
    let Some(hex) = query::text(query.as_deref().unwrap_or_default(), "infohash") else {
        return (StatusCode::BAD_REQUEST, "name the swarm with ?infohash=\n").into_response();
    };
    let name = match wire_id(&hex) {
        Ok(name) => name,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    if state.directory.scrape(&[name]).is_empty() {
        return (StatusCode::NOT_FOUND, "this tracker does not serve this torrent\n").into_response();
    }
    let Ok(reader) = Arc::clone(&state.watchers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many readers follow swarms already\n").into_response();
    };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follower = Follower { state, name, watch: Watch::default(), looks, _reader: reader };
    let lines = stream::unfold(follower, |mut follower| async move {
        let line = follower.line().await?;
        Some((serde_json::to_vec(&line).map(|json| Bytes::from([&json[..], b"\n"].concat())), follower))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

struct Follower {
    state: Arc<tracker::State>,
    name: WireId,
    watch: Watch,
    looks: tokio::time::Interval,
    _reader: OwnedSemaphorePermit,
}

impl Follower {
    async fn line(&mut self) -> Option<SwarmChange> {
        loop {
            tokio::select! {
                () = self.state.draining.cancelled() => return None,
                _ = self.looks.tick() => {}
            }
            let now = self.state.now();
            let change = self.state.directory.change(self.name, self.watch.since(now), now)?;
            if let Some(line) = self.watch.next(change, now) {
                return Some(line);
            }
        }
    }
}
