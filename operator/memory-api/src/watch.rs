//! Watches: a stream of JSON lines, read from the log at the speed of the reader.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    error::ApiError,
    kinds::KindId,
    object::meta_str,
    routes::View,
    selector::Selector,
    shared::Shared,
    store::{Change, Record},
};

/// How often an idle watch that allows bookmarks gets one.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);
/// How long a watch lasts that does not say `timeoutSeconds`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
/// How many changes are taken from the log at once.
const BATCH: usize = 64;

/// What a client asked to see.
#[derive(Clone, Debug)]
pub(crate) struct WatchRequest {
    pub(crate) id: KindId,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) view: View,
    /// Where to go on; without it the watch begins with all that is there.
    pub(crate) revision: Option<u64>,
    /// Whether to mark the end of the first objects with a bookmark (`sendInitialEvents`).
    pub(crate) mark_initial: bool,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Duration,
}

struct Watch {
    shared: Arc<Shared>,
    changed: tokio::sync::watch::Receiver<u64>,
    request: WatchRequest,
    cursor: u64,
    lines: VecDeque<Bytes>,
    ends: Instant,
    bookmark: Instant,
    over: bool,
}

/// Begins a watch.
pub(crate) fn start(
    shared: &Arc<Shared>,
    request: WatchRequest,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
    let changed = shared.subscribe();
    let now = Instant::now();
    let mut watch = Watch {
        shared: shared.clone(),
        changed,
        cursor: request.revision.unwrap_or_default(),
        lines: VecDeque::new(),
        ends: now + request.timeout,
        bookmark: now + BOOKMARK_INTERVAL,
        over: false,
        request,
    };
    if watch.request.revision.is_none() {
        watch.begin_with_all();
    }
    stream::unfold(watch, |mut watch| async move {
        let line = watch.next_line().await?;
        Some((Ok(Frame::data(line)), watch))
    })
}

impl Watch {
    async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            self.changed.mark_unchanged();
            if self.read_log() {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = sleep_until(self.ends) => self.over = true,
                () = sleep_until(self.bookmark), if self.request.bookmarks => {
                    self.push_bookmark(json!({}));
                    self.bookmark = Instant::now() + BOOKMARK_INTERVAL;
                }
            }
        }
    }

    /// Takes the next changes from the log; false if there are none.
    fn read_log(&mut self) -> bool {
        let store = self.shared.lock();
        let records = match store.changes(self.request.id, self.cursor, BATCH) {
            Ok(records) => records,
            Err(error) => {
                drop(store);
                self.push_error(&error);
                return true;
            }
        };
        let now = store.revision();
        drop(store);
        self.cursor = records.last().map_or(now.max(self.cursor), |record| record.revision);
        for record in &records {
            if let Some((kind, object)) = self.seen_as(record) {
                self.push(kind, &self.request.view.of(&object));
            }
        }
        !records.is_empty()
    }

    /// How a change looks to this watch: an object that begins to match is added, one that ceases to is deleted.
    fn seen_as(&self, record: &Record) -> Option<(&'static str, Value)> {
        let matches = |object: &Value| {
            let namespace = self.request.namespace.as_deref();
            namespace.is_none_or(|ns| ns == meta_str(object, "namespace"))
                && self.request.selector.matches(object)
        };
        let before = record.previous.as_deref().is_some_and(matches);
        let after = record.change != Change::Deleted && matches(&record.object);
        match (before, after) {
            (false, true) => Some(("ADDED", Value::clone(&record.object))),
            (true, true) => Some(("MODIFIED", Value::clone(&record.object))),
            (true, false) => Some(("DELETED", last_seen(record))),
            (false, false) => None,
        }
    }

    fn begin_with_all(&mut self) {
        let store = self.shared.lock();
        self.cursor = store.revision();
        let objects: Vec<Arc<Value>> = store
            .list(self.request.id, self.request.namespace.as_deref(), &self.request.selector)
            .cloned()
            .collect();
        drop(store);
        for object in objects {
            self.push("ADDED", &self.request.view.of(&object));
        }
        if self.request.mark_initial {
            self.push_bookmark(json!({"k8s.io/initial-events-end": "true"}));
        }
    }

    fn push_bookmark(&mut self, annotations: Value) {
        let kind = self.request.id.kind();
        let mut metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if annotations.as_object().is_some_and(|a| !a.is_empty()) {
            metadata["annotations"] = annotations;
        }
        let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata});
        self.push("BOOKMARK", &object);
    }

    fn push_error(&mut self, error: &ApiError) {
        self.push("ERROR", &error.to_status());
        self.over = true;
    }

    fn push(&mut self, kind: &str, object: &Value) {
        let mut line = json!({"type": kind, "object": object}).to_string();
        line.push('\n');
        self.lines.push_back(Bytes::from(line));
    }
}

/// The last state that matched, with the version of the change that ended it.
fn last_seen(record: &Record) -> Value {
    if record.change == Change::Deleted {
        return Value::clone(&record.object);
    }
    let mut object = record.previous.as_deref().cloned().unwrap_or_default();
    object["metadata"]["resourceVersion"] = json!(record.revision.to_string());
    object
}
