//! Taking in a registry or lists: what is served from now on. Announces go on meanwhile.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use torrent::WireId;

use super::shard::{Entry, Slot};
use super::{Admitted, Directory, lock};
use crate::lists::Lists;
use crate::registry::{Admission, Registration, SwarmNames};
use crate::swarm::Swarm;

impl Directory {
    /// Replaces what is admitted. Swarms that stay keep their peers; nodes that are gone leave theirs. `body` is the registry as it
    /// came, `digest` the SHA-256 of it (hex). Answers how many of its swarms are not served because a list denies them; none if
    /// there is a registry, and this one was to be the first.
    pub fn admit(
        &self,
        mut admission: Admission,
        digest: String,
        body: Bytes,
        registration: Registration,
    ) -> Option<usize> {
        let lists = lock(&self.lists);
        if registration == Registration::OnlyFirst && !self.admitted.load().digest.is_empty() {
            return None;
        }
        let swarms = std::mem::take(&mut admission.swarms).into_iter().map(Arc::new).collect();
        // Nodes first: who announces as one that is new must not be refused in a swarm that is there.
        self.admitted.store(Arc::new(Admitted { admission, swarms, digest, body }));
        Some(self.settle(&lists))
    }

    /// Replaces the lists. What is denied from now on loses its peers, and so does what was only allowed and is no more. Answers how many
    /// of the registered swarms are denied.
    pub fn restrict(&self, lists: Lists) -> usize {
        let mut current = lock(&self.lists);
        *current = Arc::new(lists);
        self.settle(&current)
    }

    /// Lets the swarms be as registry and lists say.
    fn settle(&self, lists: &Arc<Lists>) -> usize {
        let admitted = self.admitted.load_full();
        let is_denied = |names: &Arc<SwarmNames>| names.wire.iter().any(|name| lists.denied.contains(name));
        let (denied, served): (Vec<_>, Vec<_>) = admitted.swarms.iter().cloned().partition(is_denied);
        // Before any swarm is looked at: an announce asks under the lock of its part.
        self.in_force.store(under_all_names(lists, &denied));
        let named: HashSet<WireId> = served.iter().flat_map(|names| names.wire.iter().copied()).collect();
        for names in &served {
            self.place(names, &named);
        }
        for shard in &self.shards {
            lock(shard).retain(|name, entry| match entry {
                Entry::Alias(_) => named.contains(&name),
                Entry::Swarm(slot) => {
                    let stays = if slot.names.is_some() { named.contains(&name) } else { self.opens(name) };
                    if stays {
                        slot.swarm.renew_nodes(&admitted.admission.nodes);
                    } else {
                        slot.swarm.addresses().for_each(|address| self.sources.leave(address));
                    }
                    if !stays && slot.names.is_none() {
                        self.count_public(-1);
                    }
                    stays
                }
            });
        }
        self.changes.send_modify(|changes| *changes += 1);
        denied.len()
    }

    /// Lets all names of a swarm lead to it, and gathers in it what was under any of them.
    fn place(&self, names: &Arc<SwarmNames>, known: &HashSet<WireId>) {
        let Some(&canonical) = names.wire.iter().min() else { return };
        let mut elsewhere = Vec::new();
        for &name in &names.wire {
            let stood = lock(self.shard(name)).canonical(name);
            // A swarm that stands under a name which is no longer its own comes along.
            if stood != name && stood != canonical && !known.contains(&stood) {
                elsewhere.extend(self.take(stood));
            }
        }
        {
            let mut shard = lock(self.shard(canonical));
            if let Some(slot) = shard.slot(canonical) {
                if slot.names.replace(Arc::clone(names)).is_none() {
                    self.count_public(-1);
                }
            } else {
                let slot = Slot { names: Some(Arc::clone(names)), swarm: Swarm::default() };
                drop(shard.insert(canonical, Entry::Swarm(Box::new(slot))));
            }
        }
        for &name in names.wire.iter().filter(|&&name| name != canonical) {
            let before = lock(self.shard(name)).insert(name, Entry::Alias(canonical));
            elsewhere.extend(self.swarm_of(before));
        }
        for swarm in elsewhere {
            self.absorb(canonical, &swarm);
        }
    }

    fn take(&self, name: WireId) -> Option<Swarm> {
        let entry = lock(self.shard(name)).remove(name);
        self.swarm_of(entry)
    }

    fn swarm_of(&self, entry: Option<Entry>) -> Option<Swarm> {
        let Some(Entry::Swarm(slot)) = entry else { return None };
        if slot.names.is_none() {
            self.count_public(-1);
        }
        Some(slot.swarm)
    }

    /// Takes the peers of `other` over into the swarm that stands under `name`.
    fn absorb(&self, name: WireId, other: &Swarm) {
        let admitted = self.admitted.load();
        let mut shard = lock(self.shard(name));
        if let Some(slot) = shard.slot(name) {
            let twice = slot.swarm.absorb(other, |address| admitted.admission.networks.zone(address));
            for address in twice {
                self.sources.leave(address);
            }
        }
    }
}

/// The lists with all names of a torrent that is denied by one of them.
fn under_all_names(lists: &Arc<Lists>, denied: &[Arc<SwarmNames>]) -> Arc<Lists> {
    if denied.is_empty() {
        return Arc::clone(lists);
    }
    let mut lists = Lists::clone(lists);
    lists.denied.extend(denied.iter().flat_map(|names| names.wire.iter().copied()));
    Arc::new(lists)
}
