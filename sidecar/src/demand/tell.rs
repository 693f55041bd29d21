//! The operator hears what this node holds: at once when something has come, and now and then.

use std::sync::Arc;
use std::time::Duration;

use operator_api::{HELD_SECONDS, Held};
use tokio::sync::watch;

use super::claim::{operator, within};
use crate::jobs::Context;

/// Between two words.
const EVERY: Duration = Duration::from_secs(HELD_SECONDS);
/// After one that did not go through.
const RETRY: Duration = Duration::from_secs(5);

/// Tells it until nobody changes it any more.
pub async fn tell(context: Arc<Context>, mut held: watch::Receiver<Held>) {
    loop {
        let now = held.borrow_and_update().clone();
        let told = if now.blobs.is_empty() {
            Ok(())
        } else {
            match operator(&context) {
                Ok(operator) => within(operator.held(&now)).await,
                Err(error) => Err(error),
            }
        };
        if let Err(error) = &told {
            tracing::debug!(%error, "the operator does not hear which blobs are here");
        }
        tokio::select! {
            changed = held.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(if told.is_ok() { EVERY } else { RETRY }) => {}
        }
    }
}
