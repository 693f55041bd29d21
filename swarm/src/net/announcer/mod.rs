//! Announces a torrent to all its trackers, each on its own schedule.

mod endpoint;
mod http;
mod udp;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::WireId;

pub use self::http::chain;

use self::endpoint::Endpoint;
use super::announced::Announced;
use super::api::{Phase, TrackerSpec, TrackerStatus};
use crate::announce::udp::MAX_URL_DATA;
use crate::announce::{Announce, Answer, AnswerError, Event};

/// First wait after a failed announce; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest wait after failed announces of our own trackers, and of foreign ones.
const LONGEST_RETRY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(5));
/// `stopped` is sent, but not waited for longer than this.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Why an announce failed, or cannot be made.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error("the announce URL does not parse: {0}")]
    Url(#[from] url::ParseError),
    #[error("{0}:// trackers are not spoken to, only http://, https:// and udp:// ones")]
    Scheme(String),
    #[error("a udp:// tracker needs a host and a port, as in udp://tracker.example:6969/announce")]
    HostAndPort,
    #[error("a token or a node name cannot be said over udp://; name the tracker by its http:// URL")]
    Token,
    #[error("path and query of a udp:// URL may have {} bytes", MAX_URL_DATA)]
    LongUrl,
    #[error("cannot reach the tracker: {0}")]
    Http(String),
    #[error("the tracker answers {0}")]
    Status(reqwest::StatusCode),
    #[error("the tracker's answer is longer than 1 MiB")]
    TooLong,
    #[error("cannot look up {host}: {source}")]
    Lookup { host: String, source: std::io::Error },
    #[error("{0} has no address of a family that we listen on")]
    NoAddress(String),
    #[error("{}", joined(.0))]
    Udp(Vec<udp::LinkError>),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

fn joined(errors: &[udp::LinkError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Keeps one announcing task per tracker and wire id, as the list of trackers and the ids change, until the torrent stops.
pub async fn announce_loop(torrent: Arc<dyn Announced>) {
    let mut wanted = torrent.trackers().subscribe();
    let tasks = TaskTracker::new();
    let mut running: HashMap<TrackerSpec, (CancellationToken, HashSet<WireId>)> = HashMap::new();
    loop {
        let specs = wanted.borrow_and_update().clone();
        running.retain(|spec, (stop, _)| {
            let keep = specs.contains(spec);
            if !keep {
                stop.cancel();
            }
            keep
        });
        list(&*torrent, &specs);
        for spec in specs {
            let (stop, announced) =
                running.entry(spec.clone()).or_insert_with(|| (torrent.stop().child_token(), HashSet::new()));
            start(&torrent, &tasks, &spec, announced, stop);
        }
        tokio::select! {
            _ = wanted.changed() => {}
            () = torrent.stop().cancelled() => break,
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Our own trackers know all ids of a torrent as one swarm, so that they are told one; foreign ones are told each.
fn start(
    torrent: &Arc<dyn Announced>,
    tasks: &TaskTracker,
    spec: &TrackerSpec,
    announced: &mut HashSet<WireId>,
    stop: &CancellationToken,
) {
    let ids = torrent.wire_ids();
    let fresh = ids.into_iter().filter(|id| !announced.contains(id));
    let room = if is_own(spec) { usize::from(announced.is_empty()) } else { usize::MAX };
    for id in fresh.take(room).collect::<Vec<_>>() {
        announced.insert(id);
        match Endpoint::of(spec) {
            Ok(endpoint) => {
                let (torrent, spec) = (torrent.clone(), spec.clone());
                let session =
                    Session { torrent, spec, endpoint, id, tracker_id: None, failures: 0, reached: false };
                tasks.spawn(session.run(stop.clone()));
            }
            Err(error) => cannot(&**torrent, spec, &error),
        }
    }
}

/// A tracker that can never be announced to shows in the figures, and nothing more is done about it.
fn cannot(torrent: &dyn Announced, spec: &TrackerSpec, error: &AnnounceError) {
    torrent.show(&mut |held| {
        let Some(status) = held.iter_mut().find(|status| status.url == spec.url) else { return };
        if status.error.is_none() {
            tracing::warn!(url = without_query(&spec.url), %error, "a tracker cannot be announced to");
        }
        status.error = Some(error.to_string());
    });
}

/// For logs: the query of a foreign tracker can hold a passkey.
fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(place, _)| place)
}

fn is_own(spec: &TrackerSpec) -> bool {
    spec.bearer.is_some() || spec.node.is_some()
}

/// Lists the trackers in the torrent's figures, in the order given.
fn list(torrent: &dyn Announced, specs: &[TrackerSpec]) {
    torrent.show(&mut |held| {
        let known = std::mem::take(held);
        held.extend(specs.iter().map(|spec| {
            let found = known.iter().find(|status| status.url == spec.url).cloned();
            found.unwrap_or_else(|| TrackerStatus { url: spec.url.clone(), ..TrackerStatus::default() })
        }));
    });
}

/// One tracker and one wire id.
struct Session {
    torrent: Arc<dyn Announced>,
    spec: TrackerSpec,
    endpoint: Endpoint,
    id: WireId,
    tracker_id: Option<Vec<u8>>,
    failures: u32,
    reached: bool,
}

impl Session {
    async fn run(mut self, stop: CancellationToken) {
        let mut stats = self.torrent.changed();
        let mut complete = self.torrent.is_seed();
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
                () = self.endpoint.rest(wait) => {}
                _ = stats.wait_for(|stats| !complete && stats.phase == Phase::Complete) => {
                    complete = true;
                    // A tracker that never heard `started` is told that first. One who has but a selection of the files never
                    // completes (BEP 21): it is said to be paused.
                    if self.torrent.is_seed() {
                        event = event.or(Some(Event::Completed));
                    }
                }
                () = stop.cancelled() => break,
            }
        }
        if self.reached {
            // Politeness: the tracker forgets us sooner. It is not worth waiting for a dead one.
            let farewell = tokio::time::timeout(STOP_TIME, self.announce(Some(Event::Stopped))).await;
            tracing::debug!(
                url = without_query(&self.spec.url),
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
        self.torrent.show(&mut |held| self.show_in(held, outcome, wait));
    }

    fn show_in(&self, held: &mut [TrackerStatus], outcome: &Result<Answer, AnnounceError>, wait: Duration) {
        let Some(status) = held.iter_mut().find(|status| status.url == self.spec.url) else { return };
        status.next_in = wait;
        match outcome {
            Ok(answer) => {
                if !status.reached {
                    status.named_first = answer.peers.len();
                }
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
                    tracing::warn!(url = without_query(&self.spec.url), %error, "an announce failed; it is tried again");
                }
                status.error = Some(error.to_string());
            }
        }
    }

    async fn announce(&mut self, event: Option<Event>) -> Result<Answer, AnnounceError> {
        let engine = self.torrent.engine();
        let stats = self.torrent.figures();
        let announce = Announce {
            id: self.id,
            peer_id: engine.peer_id,
            key: engine.key,
            port: engine.port().unwrap_or_default(),
            uploaded: stats.uploaded,
            downloaded: stats.downloaded,
            left: stats.total - stats.have,
            event: event.or_else(|| self.torrent.is_partial_seed().then_some(Event::Paused)),
            tracker_id: self.tracker_id.as_deref(),
            node: self.spec.node.as_deref(),
        };
        match &mut self.endpoint {
            Endpoint::Http(tracker) => tracker.announce(&engine.http, &announce).await,
            Endpoint::Udp(tracker) => tracker.announce(engine, &announce, self.failures).await,
        }
    }
}
