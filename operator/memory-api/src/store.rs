//! The objects, their versions, and the log of changes that watches read.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    addresses::AddressPool,
    error::ApiError,
    kinds::{KINDS, Kind, KindId, NAMESPACES},
    object::{finalizers, is_deleting, meta_str, metadata_mut, owners, timestamp},
    selector::Selector,
    tokens::Tokens,
};

/// How many changes of one kind are remembered. A watch that is further behind is told 410 and lists again.
pub const LOG_LIMIT: usize = 4096;

/// Namespace (empty for cluster-scoped kinds) and name.
pub(crate) type Key = (String, String);

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) revision: u64,
    pub(crate) change: Change,
    pub(crate) object: Arc<Value>,
    /// What it was before, for watches with a selector that it may have entered or left.
    pub(crate) previous: Option<Arc<Value>>,
}

/// An object, and what each manager applied to it last.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) object: Arc<Value>,
    pub(crate) applied: BTreeMap<String, Value>,
}

#[derive(Default)]
struct Table {
    objects: BTreeMap<Key, Entry>,
    log: VecDeque<Record>,
    /// The newest revision that fell off the log.
    forgotten: u64,
}

/// The whole state. All of its methods are synchronous; the caller holds the lock.
pub(crate) struct Store {
    tables: Vec<Table>,
    revision: u64,
    made: u64,
    uids: HashSet<String>,
    pub(crate) addresses: AddressPool,
    pub(crate) tokens: Tokens,
}

impl Store {
    pub(crate) fn new(addresses: AddressPool) -> Self {
        Self {
            tables: KINDS.iter().map(|_| Table::default()).collect(),
            // A real server never says 0 or 1 either: 0 means "anything".
            revision: 1,
            made: 0,
            uids: HashSet::new(),
            addresses,
            tokens: Tokens::default(),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn find(&self, id: KindId, key: &Key) -> Option<&Entry> {
        self.tables[id.0].objects.get(key)
    }

    pub(crate) fn get(&self, id: KindId, key: &Key) -> Result<&Entry, ApiError> {
        self.find(id, key).ok_or_else(|| ApiError::not_found(id.kind(), &key.1))
    }

    pub(crate) fn find_mut(&mut self, id: KindId, key: &Key) -> Option<&mut Entry> {
        self.tables[id.0].objects.get_mut(key)
    }

    /// The objects of one namespace, or of all of them.
    pub(crate) fn list<'a>(
        &'a self,
        id: KindId,
        namespace: Option<&'a str>,
        selector: &'a Selector,
    ) -> impl Iterator<Item = &'a Arc<Value>> {
        self.tables[id.0]
            .objects
            .iter()
            .filter(move |((ns, _), _)| namespace.is_none_or(|wanted| wanted == ns))
            .map(|(_, entry)| &entry.object)
            .filter(|object| selector.matches(object))
    }

    /// The keys of one namespace, or of all of them.
    pub(crate) fn keys(&self, id: KindId, namespace: Option<&str>, selector: &Selector) -> Vec<Key> {
        let key = |object: &Arc<Value>| {
            (meta_str(object, "namespace").to_owned(), meta_str(object, "name").to_owned())
        };
        self.list(id, namespace, selector).map(key).collect()
    }

    /// At most `limit` changes of a kind after `revision`; 410 if some of them are forgotten.
    pub(crate) fn changes(&self, id: KindId, revision: u64, limit: usize) -> Result<Vec<Record>, ApiError> {
        let table = &self.tables[id.0];
        if revision < table.forgotten {
            return Err(ApiError::expired());
        }
        let from = table.log.partition_point(|record| record.revision <= revision);
        Ok(table.log.range(from..).take(limit).cloned().collect())
    }

    /// Forgets all that watches could resume from, as a compaction of etcd does.
    pub(crate) fn forget_changes(&mut self) {
        self.revision += 1;
        for table in &mut self.tables {
            table.log.clear();
            table.forgotten = self.revision;
        }
    }

    pub(crate) fn next_uid(&mut self) -> String {
        self.made += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.made)
    }

    /// Writes an object that was checked: gives it its resourceVersion, tells the watches, and if its last finalizer just
    /// went, removes it.
    pub(crate) fn commit(
        &mut self,
        id: KindId,
        key: &Key,
        object: Value,
        applied: BTreeMap<String, Value>,
    ) -> Arc<Value> {
        let previous = self.find(id, key).map(|e| e.object.clone());
        if is_deleting(&object) && finalizers(&object).next().is_none() && !self.holds_objects(id, key) {
            return self.remove(id, key, object);
        }
        let change = if previous.is_some() { Change::Modified } else { Change::Added };
        let object = self.record(id, change, object, previous);
        self.uids.insert(meta_str(&object, "uid").to_owned());
        self.tables[id.0].objects.insert(key.clone(), Entry { object: object.clone(), applied });
        if owners(&object).next().is_some() && !owners(&object).any(|uid| self.uids.contains(uid)) {
            self.delete(id, key);
        }
        object
    }

    /// Begins to delete: marks the object if it has finalizers, else removes it. Its dependents follow.
    pub(crate) fn delete(&mut self, id: KindId, key: &Key) -> Option<Arc<Value>> {
        let entry = self.find(id, key)?.clone();
        let mut object = Value::clone(&entry.object);
        if is_deleting(&object) {
            return Some(entry.object);
        }
        let metadata = metadata_mut(&mut object);
        metadata.insert("deletionTimestamp".into(), json!(timestamp()));
        metadata.insert("deletionGracePeriodSeconds".into(), json!(0));
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".into(), json!(generation + 1));
        }
        if id == NAMESPACES {
            object["status"] = json!({"phase": "Terminating"});
        }
        let object = self.commit(id, key, object, entry.applied);
        if id == NAMESPACES {
            self.empty_namespace(&key.1);
        }
        Some(object)
    }

    fn remove(&mut self, id: KindId, key: &Key, object: Value) -> Arc<Value> {
        let Some(entry) = self.tables[id.0].objects.remove(key) else { return Arc::new(object) };
        let uid = meta_str(&object, "uid").to_owned();
        self.uids.remove(&uid);
        self.addresses.release(&object);
        let object = self.record(id, Change::Deleted, object, Some(entry.object));
        self.collect_dependents(&uid);
        self.finish_namespace(&key.0);
        object
    }

    fn record(
        &mut self,
        id: KindId,
        change: Change,
        mut object: Value,
        previous: Option<Arc<Value>>,
    ) -> Arc<Value> {
        self.revision += 1;
        metadata_mut(&mut object).insert("resourceVersion".into(), json!(self.revision.to_string()));
        let object = Arc::new(object);
        let table = &mut self.tables[id.0];
        table.log.push_back(Record { revision: self.revision, change, object: object.clone(), previous });
        if table.log.len() > LOG_LIMIT
            && let Some(oldest) = table.log.pop_front()
        {
            table.forgotten = oldest.revision;
        }
        object
    }

    /// The garbage collector: what was owned only by `uid` goes, what has other owners loses the reference.
    fn collect_dependents(&mut self, uid: &str) {
        for id in KindId::all() {
            let owned = |e: &Entry| owners(&e.object).any(|owner| owner == uid);
            let table = &self.tables[id.0];
            let keys: Vec<Key> =
                table.objects.iter().filter(|(_, e)| owned(e)).map(|(k, _)| k.clone()).collect();
            for key in keys {
                let Some(entry) = self.find(id, &key).cloned() else { continue };
                if !owners(&entry.object).any(|owner| self.uids.contains(owner)) {
                    self.delete(id, &key);
                    continue;
                }
                let mut object = Value::clone(&entry.object);
                if let Some(list) = object["metadata"]["ownerReferences"].as_array_mut() {
                    list.retain(|owner| owner["uid"] != uid);
                }
                self.commit(id, &key, object, entry.applied);
            }
        }
    }

    fn empty_namespace(&mut self, namespace: &str) {
        for id in KindId::all().filter(|id| id.kind().namespaced) {
            for key in self.keys(id, Some(namespace), &Selector::default()) {
                self.delete(id, &key);
            }
        }
    }

    /// Lets a namespace go that waited only for its last object.
    fn finish_namespace(&mut self, namespace: &str) {
        let key = (String::new(), namespace.to_owned());
        if let Some(entry) = self.find(NAMESPACES, &key).cloned()
            && is_deleting(&entry.object)
            && !self.holds_objects(NAMESPACES, &key)
        {
            self.commit(NAMESPACES, &key, Value::clone(&entry.object), entry.applied);
        }
    }

    /// Whether it is a namespace that is not empty.
    fn holds_objects(&self, id: KindId, key: &Key) -> bool {
        id == NAMESPACES
            && KindId::all()
                .filter(|id| id.kind().namespaced)
                .any(|id| self.tables[id.0].objects.keys().any(|(ns, _)| *ns == key.1))
    }

    /// A namespaced object needs its namespace to exist, and not to go.
    pub(crate) fn check_namespace(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), ApiError> {
        if !kind.namespaced {
            return Ok(());
        }
        let entry = self.get(NAMESPACES, &(String::new(), namespace.to_owned()))?;
        if is_deleting(&entry.object) {
            let what = kind.qualified();
            let message = format!(
                "{what} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(ApiError::forbidden(message));
        }
        Ok(())
    }
}
