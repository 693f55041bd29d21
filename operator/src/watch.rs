//! The watches that feed the index.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use crds::{
    CLASS_LABEL, Distribution, DistributionClass, DistributionRevision, NodeDistribution, SIDECAR_COMPONENT,
    TRACKER_COMPONENT,
};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::index::{Indexed, NodeFacts, ObjectId, SidecarPod};

/// How many lists there are to read before anything is done.
pub const WATCHES: u32 = 8;

/// The label that says what a pod is for.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// All watches; each runs until it is dropped.
pub fn all(context: &Arc<Context>) -> Vec<BoxFuture<'static, ()>> {
    let client = &context.client;
    let namespace = &context.settings.namespace;
    let everything = watcher::Config::default;
    let sidecars = everything().labels(&format!("{COMPONENT_LABEL}={SIDECAR_COMPONENT},{CLASS_LABEL}"));
    let trackers = || everything().labels(&format!("{COMPONENT_LABEL}={TRACKER_COMPONENT},{CLASS_LABEL}"));
    let pods = Api::<DeserializeGuard<Pod>>::namespaced(client.clone(), namespace);
    let deployments = Api::<DeserializeGuard<Deployment>>::namespaced(client.clone(), namespace);
    let services = Api::<DeserializeGuard<Service>>::namespaced(client.clone(), namespace);
    vec![
        whole::<Distribution>(context, everything()),
        whole::<DistributionRevision>(context, everything()),
        whole::<DistributionClass>(context, everything()),
        whole::<NodeDistribution>(context, everything()),
        follow(context.clone(), Api::all(client.clone()), everything(), |node: Node| {
            Some(NodeFacts::from(&node))
        })
        .boxed(),
        follow(context.clone(), pods, sidecars, |pod: Pod| SidecarPod::of(&pod)).boxed(),
        follow(context.clone(), deployments, trackers(), |deployment| Some(stripped(deployment))).boxed(),
        follow(context.clone(), services, trackers(), |service| Some(stripped(service))).boxed(),
    ]
}

fn whole<K>(context: &Arc<Context>, config: watcher::Config) -> BoxFuture<'static, ()>
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + DeserializeOwned,
{
    let api = Api::<DeserializeGuard<K>>::all(context.client.clone());
    follow(context.clone(), api, config, |object| Some(stripped(object))).boxed()
}

/// Without what only the API server needs: it is a third of the memory.
fn stripped<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

async fn follow<K, T>(
    context: Arc<Context>,
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    facts: impl Fn(K) -> Option<T> + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Indexed,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut seen = HashSet::new();
    let mut synced = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => seen.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                seen.insert(take_in(&context, object, &facts));
            }
            Ok(watcher::Event::InitDone) => {
                let touched = context.index().retain::<T>(|id| seen.contains(id));
                context.touched::<T>(touched);
                seen = HashSet::new();
                if !std::mem::replace(&mut synced, true) {
                    context.list_synced();
                }
            }
            Ok(watcher::Event::Apply(object)) => {
                take_in(&context, object, &facts);
            }
            Ok(watcher::Event::Delete(object)) => {
                let touched = context.index().delete::<T>(&ObjectId::of(&object));
                context.touched::<T>(touched);
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch broke; it is taken up again"),
        }
    }
}

/// An object that cannot be read is left as it was known: one malformed object stalls nothing and deletes nothing.
fn take_in<K, T>(context: &Context, object: DeserializeGuard<K>, facts: &impl Fn(K) -> Option<T>) -> ObjectId
where
    K: Resource<DynamicType = ()> + Clone,
    T: Indexed,
{
    let id = ObjectId::of(&object);
    let touched = match object.0 {
        Ok(object) => match facts(object) {
            Some(facts) => context.index().apply(&id, facts),
            None => context.index().delete::<T>(&id),
        },
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), namespace = %id.namespace, name = %id.name, %error, "cannot be read");
            return id;
        }
    };
    context.touched::<T>(touched);
    id
}
