//! What is known for a short time. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::time::Instant;

/// So many things at most, each until its time. When there is no room what ends first goes.
#[derive(Debug)]
pub struct Brief<K, V, T = Instant> {
    most: usize,
    known: HashMap<K, (V, T)>,
}

impl<K: Hash + Eq + Clone, V, T: Ord + Copy> Brief<K, V, T> {
    /// Nothing yet.
    pub fn new(most: usize) -> Self {
        Self { most, known: HashMap::new() }
    }

    /// What is known now.
    pub fn get(&self, key: &K, now: T) -> Option<&V> {
        self.known.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value)
    }

    /// It is known until then.
    pub fn put(&mut self, key: K, value: V, until: T, now: T) {
        if self.known.len() >= self.most && !self.known.contains_key(&key) {
            self.known.retain(|_, (_, until)| *until > now);
        }
        if self.known.len() >= self.most && !self.known.contains_key(&key) {
            let first = self.known.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
            first.and_then(|first| self.known.remove(&first));
        }
        self.known.insert(key, (value, until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn things_are_known_until_their_time_and_so_many_at_most() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut brief = Brief::new(2);
        brief.put("a", 1, at(10), start);
        brief.put("b", 2, at(20), start);
        assert_eq!((brief.get(&"a", at(9)), brief.get(&"a", at(10))), (Some(&1), None));
        brief.put("a", 3, at(30), start);
        assert_eq!(
            (brief.get(&"a", at(29)), brief.get(&"b", start)),
            (Some(&3), Some(&2)),
            "it is its own place"
        );
        brief.put("c", 4, at(40), start);
        assert_eq!(brief.get(&"b", start), None, "what ends first goes");
        brief.put("d", 5, at(50), at(35));
        assert_eq!((brief.get(&"c", at(35)), brief.get(&"d", at(35))), (Some(&4), Some(&5)));
        assert_eq!(brief.known.len(), 2);
    }
}
