//! Turns at the servers of web seeds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests to one server under way at a time, of all torrents: the second fills the pauses of the first, and more take from
/// others what they do not get faster.
pub const PER_HOST: usize = 2;

/// The servers that are being asked, or waited for.
#[derive(Debug, Default)]
pub struct Hosts(Mutex<HashMap<String, Weak<Semaphore>>>);

impl Hosts {
    /// Waits for a turn at a server, named by host and port; it lasts as long as the permit is held. First come, first served.
    pub async fn turn(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        self.turns(host).acquire_owned().await.ok()
    }

    fn turns(&self, host: &str) -> Arc<Semaphore> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = held.get(host).and_then(Weak::upgrade) {
            return turns;
        }
        // Those that nobody asks any more go, so that the table is no longer than the list of web seeds.
        held.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(PER_HOST));
        held.insert(host.to_owned(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_asked_by_so_many_and_the_table_forgets() {
        let hosts = Hosts::default();
        let held = (hosts.turn("a").await, hosts.turn("a").await);
        assert_eq!(hosts.turns("a").available_permits(), 0);
        assert!(hosts.turn("b").await.is_some());
        drop(held);
        assert_eq!(hosts.turns("c").available_permits(), PER_HOST);
        assert_eq!(hosts.0.lock().unwrap().len(), 1);
    }
}
