//! A copy of some objects of the API server, kept by a watch.
//!
//! The copy only ever shrinks on word from the API server: a list that fails, or an object that cannot be read, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The objects of one kind that a watch selects.
#[derive(Debug)]
pub struct Mirror<K> {
    /// Whether they were listed at least once.
    pub listed: bool,
    /// Those that can be read, by name.
    pub objects: BTreeMap<String, Arc<K>>,
    /// Those that cannot. What was known of them before stays in `objects`.
    pub unreadable: BTreeSet<String>,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self { listed: false, objects: BTreeMap::new(), unreadable: BTreeSet::new() }
    }
}

impl<K> Clone for Mirror<K> {
    fn clone(&self) -> Self {
        Self { listed: self.listed, objects: self.objects.clone(), unreadable: self.unreadable.clone() }
    }
}

/// Starts the watch; it ends with `shutdown`.
pub fn mirror<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    shutdown: CancellationToken,
) -> watch::Receiver<Mirror<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(Mirror::default());
    tokio::spawn(async move {
        let kind = K::kind(&());
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut relist = None;
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => apply(&sender, &mut relist, event),
                Some(Err(error)) => {
                    tracing::warn!(%kind, %error, "the watch failed; what is known stays, trying again");
                }
                None => return,
            }
        }
    });
    receiver
}

/// The names of a list that is under way, and its objects.
type Relist<K> = Option<Mirror<K>>;

fn apply<K>(sender: &watch::Sender<Mirror<K>>, relist: &mut Relist<K>, event: Event<DeserializeGuard<K>>)
where
    K: Resource<DynamicType = ()>,
{
    match event {
        Event::Init => *relist = Some(Mirror { listed: true, ..Mirror::default() }),
        Event::InitApply(object) => {
            if let Some(relist) = relist {
                insert(relist, object, &sender.borrow().objects);
            }
        }
        Event::InitDone => {
            if let Some(relist) = relist.take() {
                sender.send_replace(relist);
            }
        }
        Event::Apply(object) => sender.send_modify(|mirror| {
            let before = mirror.objects.clone();
            insert(mirror, object, &before);
        }),
        Event::Delete(object) => {
            let name = object.name_any();
            sender.send_modify(|mirror| {
                mirror.objects.remove(&name);
                mirror.unreadable.remove(&name);
            });
        }
    }
}

fn insert<K>(mirror: &mut Mirror<K>, object: DeserializeGuard<K>, before: &BTreeMap<String, Arc<K>>)
where
    K: Resource<DynamicType = ()>,
{
    let name = object.name_any();
    match object.0 {
        Ok(object) => {
            mirror.unreadable.remove(&name);
            mirror.objects.insert(name, Arc::new(object));
        }
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), name, %error, "an object cannot be read; it is left as it was");
            if let Some(known) = before.get(&name) {
                mirror.objects.insert(name.clone(), Arc::clone(known));
            }
            mirror.unreadable.insert(name);
        }
    }
}
