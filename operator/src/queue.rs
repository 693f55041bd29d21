//! What has to be looked at, each key once however often it was touched, and never twice at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Changes that come in crowds (node reports) are collected for so long.
const SOON: Duration = Duration::from_millis(200);

/// A key that only such changes touch is looked at so often at most.
const BETWEEN: Duration = Duration::from_secs(1);

/// One thing that is reconciled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A `DistributionClass`, by name.
    Class(String),
    /// A `Distribution`, or what was left of one.
    Distribution {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Class(name) => write!(f, "class {name}"),
            Self::Distribution { namespace, name } => write!(f, "distribution {namespace}/{name}"),
        }
    }
}

/// How soon a touched key wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once.
    Now,
    /// With others that come in the next moment.
    Soon,
}

#[derive(Debug, Default)]
struct State {
    due: BTreeMap<Key, Instant>,
    /// When each was taken last; no further back than [`BETWEEN`].
    taken: BTreeMap<Key, Instant>,
    running: BTreeSet<Key>,
}

/// Keys with the time each is due. As long as the objects are many, so is it: it holds each key once.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    /// Adds keys that a change touched.
    pub fn touch(&self, keys: impl IntoIterator<Item = (Key, Urgency)>) {
        let now = Instant::now();
        for (key, urgency) in keys {
            let at = match urgency {
                Urgency::Now => now,
                Urgency::Soon => {
                    let taken = self.lock().taken.get(&key).copied();
                    taken.map_or(now + SOON, |at| (at + BETWEEN).max(now + SOON))
                }
            };
            self.at(key, at);
        }
    }

    /// Adds a key to be looked at after a pause, if nothing wants it sooner.
    pub fn after(&self, key: Key, pause: Duration) {
        self.at(key, Instant::now() + pause);
    }

    fn at(&self, key: Key, at: Instant) {
        let mut state = self.lock();
        let due = state.due.entry(key).or_insert(at);
        *due = at.min(*due);
        drop(state);
        self.changed.notify_one();
    }

    /// The next key that is due and not being looked at. It stays taken until [`Queue::done`].
    pub async fn next(&self) -> Key {
        loop {
            let wait = {
                let mut state = self.lock();
                let now = Instant::now();
                let idle = state.due.iter().filter(|(key, _)| !state.running.contains(key));
                match idle.min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at)) {
                    Some((key, at)) if at <= now => {
                        state.due.remove(&key);
                        state.taken.retain(|_, at| now.duration_since(*at) < BETWEEN);
                        state.taken.insert(key.clone(), now);
                        state.running.insert(key.clone());
                        return key;
                    }
                    other => other.map(|(_, at)| at),
                }
            };
            let changed = self.changed.notified();
            match wait {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// The look at a key is over; it may be taken again.
    pub fn done(&self, key: &Key) {
        self.lock().running.remove(key);
        self.changed.notify_one();
    }

    /// Forgets everything: another is the leader.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.due.clear();
        state.taken.clear();
        state.running.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::Class(name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_held_once_and_never_given_twice_at_a_time() {
        let queue = Queue::default();
        queue.touch([(key("a"), Urgency::Now), (key("a"), Urgency::Now)]);
        assert_eq!(queue.next().await, key("a"));
        queue.touch([(key("a"), Urgency::Now)]);
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.done(&key("a"));
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_sooner_time_wins() {
        let queue = Queue::default();
        queue.after(key("a"), Duration::from_secs(30));
        queue.touch([(key("a"), Urgency::Soon)]);
        queue.after(key("a"), Duration::from_mins(1));
        let start = Instant::now();
        assert_eq!(queue.next().await, key("a"));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn crowds_of_changes_are_looked_at_once_a_second() {
        let queue = Queue::default();
        let start = Instant::now();
        let mut looks = 0;
        while start.elapsed() < Duration::from_secs(10) {
            queue.touch([(key("a"), Urgency::Soon)]);
            if let Ok(taken) = tokio::time::timeout(Duration::from_millis(50), queue.next()).await {
                queue.done(&taken);
                looks += 1;
            }
        }
        assert!((9..=11).contains(&looks), "{looks} looks in 10 s");
        queue.touch([(key("a"), Urgency::Soon), (key("a"), Urgency::Now)]);
        let wait = tokio::time::timeout(Duration::from_millis(1), queue.next()).await;
        assert_eq!(wait, Ok(key("a")), "what is urgent does not wait");
    }
}
