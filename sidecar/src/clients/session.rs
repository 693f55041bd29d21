//! The token for the trackers, kept fresh.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{OperatorClient, TokenSource};
use crate::class::ClassInfo;

/// The token is asked for again after this long, so that a rotation reaches all.
const REFRESH: Duration = Duration::from_mins(10);
/// First pause after a failure; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// At most one refusal in so much time makes us ask again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(5);

/// Bearer token for the trackers of the class.
#[derive(Clone, PartialEq, Eq)]
pub struct TrackerToken(pub Arc<str>);

impl fmt::Debug for TrackerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrackerToken(..)")
    }
}

/// The token as it is now, and a way to say that a tracker refused it.
#[derive(Clone, Debug)]
pub struct Session {
    token: watch::Receiver<Option<TrackerToken>>,
    refused: Arc<Notify>,
}

impl Session {
    /// The token, if there is one yet.
    pub fn token(&self) -> Option<TrackerToken> {
        self.token.borrow().clone()
    }

    /// To wait for changes.
    pub fn watch(&self) -> watch::Receiver<Option<TrackerToken>> {
        self.token.clone()
    }

    /// A tracker did not take it.
    pub fn refused(&self) {
        self.refused.notify_one();
    }
}

/// Starts to keep it, until `shutdown`.
pub fn keep_session(
    class: watch::Receiver<Option<Arc<ClassInfo>>>,
    token: TokenSource,
    shutdown: CancellationToken,
) -> Session {
    let (sender, receiver) = watch::channel(None);
    let refused = Arc::new(Notify::new());
    let session = Session { token: receiver, refused: Arc::clone(&refused) };
    tokio::spawn(async move {
        tokio::select! {
            () = keep(class, token, sender, refused) => {}
            () = shutdown.cancelled() => {}
        }
    });
    session
}

async fn keep(
    mut class: watch::Receiver<Option<Arc<ClassInfo>>>,
    token: TokenSource,
    sender: watch::Sender<Option<TrackerToken>>,
    refused: Arc<Notify>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let endpoint = class.borrow_and_update().as_ref().and_then(|class| class.operator.clone());
        let wait = match endpoint {
            None => MAX_PAUSE,
            Some(endpoint) => {
                let asked = async { OperatorClient::new(&endpoint, token.clone())?.session().await };
                match asked.await {
                    Ok(session) => {
                        let fresh = TrackerToken(session.tracker_token.into());
                        sender.send_if_modified(|old| {
                            let changed = old.as_ref() != Some(&fresh);
                            *old = Some(fresh);
                            changed
                        });
                        pause = FIRST_PAUSE;
                        REFRESH
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no token for the trackers; asking again");
                        pause = (pause * 2).min(MAX_PAUSE);
                        rand::rng().random_range(pause / 2..pause)
                    }
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = class.changed() => if changed.is_err() { return },
            () = refused.notified() => tokio::time::sleep(REFUSAL_PAUSE).await,
        }
    }
}
