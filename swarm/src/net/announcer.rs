//! Announces a torrent to all its trackers, each on its own schedule.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::WireId;
use url::Url;

use super::announced::Announced;
use super::api::{Phase, TrackerSpec, TrackerStatus};
use crate::announce::http::MAX_RESPONSE;
use crate::announce::{Announce, Answer, AnswerError, Event};

/// First wait after a failed announce; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest wait after failed announces of our own trackers, and of foreign ones.
const LONGEST_RETRY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(5));
/// `stopped` is sent, but not waited for longer than this.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Why an announce failed.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error("cannot reach the tracker: {0}")]
    Http(String),
    #[error("the tracker answers {0}")]
    Status(reqwest::StatusCode),
    #[error("the tracker's answer is longer than 1 MiB")]
    TooLong,
    #[error("the announce URL is neither http:// nor https://: {0}")]
    Url(String),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Keeps one announcing task per tracker and wire id, as the list of trackers changes, until the torrent stops.
pub async fn announce_loop(torrent: Arc<dyn Announced>) {
    let mut wanted = torrent.trackers().subscribe();
    let tasks = TaskTracker::new();
    let mut running: HashMap<TrackerSpec, CancellationToken> = HashMap::new();
    loop {
        let specs = wanted.borrow_and_update().clone();
        running.retain(|spec, stop| {
            let keep = specs.contains(spec);
            if !keep {
                stop.cancel();
            }
            keep
        });
        list(&*torrent, &specs);
        for spec in specs {
            running.entry(spec.clone()).or_insert_with(|| start(&torrent, &tasks, &spec));
        }
        tokio::select! {
            _ = wanted.changed() => {}
            () = torrent.stop().cancelled() => break,
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Our own trackers know both ids of a hybrid as one swarm; foreign ones are told both.
fn start(torrent: &Arc<dyn Announced>, tasks: &TaskTracker, spec: &TrackerSpec) -> CancellationToken {
    let stop = torrent.stop().child_token();
    let ids = torrent.wire_ids();
    let count = if is_own(spec) { 1 } else { ids.len() };
    for id in ids.into_iter().take(count) {
        let session = Session {
            torrent: torrent.clone(),
            spec: spec.clone(),
            id,
            tracker_id: None,
            failures: 0,
            reached: false,
        };
        tasks.spawn(session.run(stop.clone()));
    }
    stop
}

fn is_own(spec: &TrackerSpec) -> bool {
    spec.bearer.is_some() || spec.node.is_some()
}

/// Lists the trackers in the torrent's figures, in the order given.
fn list(torrent: &dyn Announced, specs: &[TrackerSpec]) {
    let mut held = torrent.tracker_status().lock().unwrap_or_else(PoisonError::into_inner);
    let known = std::mem::take(&mut *held);
    held.extend(specs.iter().map(|spec| {
        let found = known.iter().find(|status| status.url == spec.url).cloned();
        found.unwrap_or_else(|| TrackerStatus { url: spec.url.clone(), ..TrackerStatus::default() })
    }));
}

/// One tracker and one wire id.
struct Session {
    torrent: Arc<dyn Announced>,
    spec: TrackerSpec,
    id: WireId,
    tracker_id: Option<Vec<u8>>,
    failures: u32,
    reached: bool,
}

impl Session {
    async fn run(mut self, stop: CancellationToken) {
        let mut stats = self.torrent.changed();
        let mut complete = self.torrent.is_complete();
        let mut event = Some(Event::Started);
        loop {
            let outcome = tokio::select! {
                outcome = self.announce(event) => outcome,
                () = stop.cancelled() => break,
            };
            if outcome.is_ok() {
                event = None;
            }
            let wait = self.note(outcome);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stats.wait_for(|stats| !complete && stats.phase == Phase::Complete) => {
                    complete = true;
                    // A tracker that never heard `started` is told that first.
                    event = event.or(Some(Event::Completed));
                }
                () = stop.cancelled() => break,
            }
        }
        if self.reached {
            // Politeness: the tracker forgets us sooner. It is not worth waiting for a dead one.
            let farewell = tokio::time::timeout(STOP_TIME, self.announce(Some(Event::Stopped))).await;
            tracing::debug!(
                url = self.spec.url,
                ok = matches!(farewell, Ok(Ok(_))),
                "said goodbye to the tracker"
            );
        }
    }

    /// Takes the outcome into the figures; returns how long to wait.
    fn note(&mut self, outcome: Result<Answer, AnnounceError>) -> Duration {
        let own = is_own(&self.spec);
        let wait = if let Ok(answer) = &outcome {
            self.failures = 0;
            answer.wait(own)
        } else {
            let longest = if own { LONGEST_RETRY.0 } else { LONGEST_RETRY.1 };
            self.failures += 1;
            (FIRST_RETRY * 2u32.saturating_pow((self.failures - 1).min(10))).min(longest)
        };
        let wait = wait.mul_f64(rand::rng().random_range(0.9..1.1));
        self.show(&outcome, wait);
        if let Ok(answer) = outcome {
            self.reached = true;
            self.tracker_id = answer.tracker_id.or(self.tracker_id.take());
            self.torrent.learn(answer.peers);
        }
        wait
    }

    fn show(&self, outcome: &Result<Answer, AnnounceError>, wait: Duration) {
        let mut held = self.torrent.tracker_status().lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = held.iter_mut().find(|status| status.url == self.spec.url) else { return };
        status.next_in = wait;
        match outcome {
            Ok(answer) => {
                status.reached = true;
                status.error = None;
                status.seeders = answer.seeders;
                status.leechers = answer.leechers;
                if let Some(id) = &answer.tracker_id {
                    status.tracker_id = Some(String::from_utf8_lossy(id).into_owned());
                }
            }
            Err(error) => {
                if status.error.is_none() {
                    tracing::warn!(url = self.spec.url, %error, "an announce failed; it is tried again");
                }
                status.error = Some(error.to_string());
            }
        }
    }

    async fn announce(&self, event: Option<Event>) -> Result<Answer, AnnounceError> {
        let url = self.url(event)?;
        let mut request = self.torrent.engine().http.get(url);
        if let Some(token) = &self.spec.bearer {
            request = request.bearer_auth(token);
        }
        // `without_url`: the query would fill the log, and a foreign announce URL can hold a passkey.
        let http = |error: reqwest::Error| AnnounceError::Http(chain(&error.without_url()));
        let mut response = request.send().await.map_err(http)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > MAX_RESPONSE {
                return Err(AnnounceError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        match Answer::parse(&body) {
            Ok(answer) if response.status().is_success() => Ok(answer),
            // A refusal says more than the status that goes with it.
            Err(refused @ AnswerError::Refused(_)) => Err(refused.into()),
            _ if !response.status().is_success() => Err(AnnounceError::Status(response.status())),
            other => Ok(other?),
        }
    }

    fn url(&self, event: Option<Event>) -> Result<Url, AnnounceError> {
        let mut url = Url::parse(&self.spec.url).map_err(|error| AnnounceError::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AnnounceError::Url(url.scheme().to_owned()));
        }
        let stats = self.torrent.figures();
        let query = Announce {
            id: self.id,
            peer_id: self.torrent.engine().peer_id,
            key: self.torrent.engine().key,
            port: self.torrent.engine().port().unwrap_or_default(),
            uploaded: stats.uploaded,
            downloaded: stats.downloaded,
            left: stats.total - stats.have,
            event,
            tracker_id: self.tracker_id.as_deref(),
            node: self.spec.node.as_deref(),
        }
        .query();
        let query = match url.query() {
            Some(given) if !given.is_empty() => format!("{given}&{query}"),
            _ => query,
        };
        url.set_query(Some(&query));
        Ok(url)
    }
}

/// An error with its causes: reqwest says "error sending request" and keeps the reason to itself.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
