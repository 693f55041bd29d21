//! The state that all clients of one API share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{error::ApiError, store::Store};

/// One request, as an interceptor sees it before it has any effect.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// The path of the URL.
    pub path: &'a str,
    /// The query of the URL.
    pub query: Option<&'a str>,
    /// The body as it came.
    pub body: &'a [u8],
}

/// Sees every request, and may have it answered with an error instead of doing it.
pub type Interceptor = dyn Fn(&Call<'_>) -> Result<(), ApiError> + Send + Sync;

pub(crate) struct Shared {
    store: Mutex<Store>,
    interceptor: Mutex<Option<Arc<Interceptor>>>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(store: Store) -> Self {
        let (changed, _) = tokio::sync::watch::channel(store.revision());
        Self { store: Mutex::new(store), interceptor: Mutex::new(None), changed }
    }

    /// A panic elsewhere leaves whole objects: every change is one insert.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the state, then wakes the watches.
    pub(crate) fn write<T>(&self, action: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.lock();
        let result = action(&mut store);
        let revision = store.revision();
        drop(store);
        self.changed.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        result
    }

    pub(crate) fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn intercept_with(&self, interceptor: Option<Arc<Interceptor>>) {
        *self.interceptor.lock().unwrap_or_else(PoisonError::into_inner) = interceptor;
    }

    pub(crate) fn intercept(&self, call: &Call<'_>) -> Result<(), ApiError> {
        let interceptor = self.interceptor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        interceptor.map_or(Ok(()), |interceptor| interceptor(call))
    }
}
