//! An in-memory Kubernetes API: a tower service under [`kube::Client`], with the kinds that Samara needs and no more.
//!
//! It carries `samara demo` and the tests of operator and sidecar. What it does, it does as a real API server; one
//! conformance suite (`e2e/tests/api_conformance.rs`) runs against both:
//!
//! * get, list (whole, never in pages), watch (resume by resourceVersion, bookmarks, initial events, 410), create, update,
//!   delete, deletecollection; merge patch, JSON patch, server-side apply (see `apply.rs` for how near); status on its own
//!   path; label selectors and the usual field selectors; metadata-only answers;
//! * uid, resourceVersion (409), generation, finalizers with deletionTimestamp, ownerReferences with their garbage
//!   collection, namespaces that empty themselves; a write that changes nothing is none;
//! * what controllers do elsewhere and clients rely on: cluster IPs for Services, conditions of CRDs, TokenReview.
//!
//! What it does not: authentication, authorization, admission, schemas and their defaults, versions, pages, dry runs,
//! strategic merge patches, graceful deletion (a pod is gone at once), scheduling and running pods.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), kube::Error> {
//! use k8s_openapi::api::core::v1::ConfigMap;
//! let client = memory_api::MemoryApi::new().client();
//! let maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(client);
//! assert!(maps.list(&Default::default()).await?.items.is_empty());
//! # Ok(()) }
//! ```

mod addresses;
mod apply;
mod defaults;
mod error;
mod kinds;
mod object;
mod routes;
mod selector;
mod service;
mod shared;
mod store;
mod tokens;
mod verbs;
mod watch;
mod write;

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use error::ApiError;
pub use kinds::{Generation, KINDS, Kind};
pub use service::{MemoryService, ResponseBody};
pub use shared::{Call, Interceptor};
pub use store::LOG_LIMIT;
pub use tokens::BoundToken;
pub use watch::{BOOKMARK_INTERVAL, DEFAULT_TIMEOUT};

use addresses::AddressPool;
use kinds::KindId;
use object::{meta_str, metadata_mut};
use shared::Shared;
use store::Store;

/// Where Services get their addresses from unless said otherwise: a /16.
pub const SERVICE_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 0);
/// The namespaces that are there from the start.
pub const NAMESPACES: &[&str] = &["default", "kube-system"];

/// One cluster's worth of objects. Clones share it.
#[derive(Clone)]
pub struct MemoryApi {
    shared: Arc<Shared>,
}

impl Default for MemoryApi {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryApi {
    /// An empty cluster with the [`NAMESPACES`], and Services in [`SERVICE_NETWORK`]`/16`.
    pub fn new() -> Self {
        Self::with_service_network(SERVICE_NETWORK, 16)
    }

    /// The same with Services in another network.
    pub fn with_service_network(network: Ipv4Addr, prefix: u8) -> Self {
        let api = Self { shared: Arc::new(Shared::new(Store::new(AddressPool::new(network, prefix)))) };
        for name in NAMESPACES {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            api.shared
                .write(|store| store.create(kinds::NAMESPACES, "", namespace))
                .expect("the store is empty and the names are valid");
        }
        api
    }

    /// The service that [`Self::client`] speaks to, to put layers around it.
    pub fn service(&self) -> MemoryService {
        MemoryService { shared: self.shared.clone() }
    }

    /// A client whose default namespace is `default`. Has to be called within a tokio runtime, as every `kube::Client`.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// Puts an object there whole, status and all, and answers it as it is stored. One of the same name is replaced.
    /// Its namespace must exist.
    pub fn seed<K: Serialize + DeserializeOwned>(&self, object: &K) -> Result<K, ApiError> {
        let bad = |error: serde_json::Error| ApiError::bad_request(error.to_string());
        let object = serde_json::to_value(object).map_err(bad)?;
        let seeded = self.shared.write(|store| seed(store, object))?;
        serde_json::from_value(Value::clone(&seeded)).map_err(bad)
    }

    /// Makes a TokenReview of `token` succeed, for as long as the pod of the token exists.
    pub fn add_token(&self, token: impl Into<String>, bound: BoundToken) {
        self.shared.write(|store| store.tokens.add(token.into(), bound));
    }

    /// Shows every request to `interceptor` before it has any effect; what it answers with an error is not done.
    pub fn intercept(&self, interceptor: impl Fn(&Call<'_>) -> Result<(), ApiError> + Send + Sync + 'static) {
        self.shared.intercept_with(Some(Arc::new(interceptor)));
    }

    /// Forgets the log of changes, as a compaction of etcd does: watches that resume get 410 and list again.
    pub fn compact(&self) {
        self.shared.write(Store::forget_changes);
    }
}

fn seed(store: &mut Store, object: Value) -> Result<Arc<Value>, ApiError> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let id = KindId::by_type(text("apiVersion"), text("kind")).ok_or_else(ApiError::no_such_resource)?;
    let namespace = meta_str(&object, "namespace").to_owned();
    let key = (namespace.clone(), meta_str(&object, "name").to_owned());
    let status = object.get("status").filter(|status| !status.is_null()).cloned();
    let seeded = if store.find(id, &key).is_some() {
        let mut object = object;
        metadata_mut(&mut object).remove("resourceVersion");
        store.overwrite(id, &key, object)?
    } else {
        store.create(id, &namespace, object)?
    };
    match status.filter(|_| id.kind().status) {
        Some(status) => store.merge_patch(id, &key, true, &json!({ "status": status })),
        None => Ok(seeded),
    }
}
