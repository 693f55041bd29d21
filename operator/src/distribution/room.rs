//! How much is resolved at a time. What is large, or asked of one registry, waits its turn; files that stand in the object do not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crds::Distribution;
use origin::registry::Reference;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// So many images are resolved at a time at one registry: a cluster that gets all its Distributions at once must not look like an attack
/// to it (T89), nor may a registry that hangs hold up the others.
const AT_ONE_REGISTRY: usize = 4;
/// And so many at all: an image's documents have 16 MiB at most, and several times that while one of them is read.
const IMAGES_AT_A_TIME: usize = 12;

/// The room for images.
#[derive(Debug)]
pub struct ImageRoom {
    all: Arc<Semaphore>,
    /// By `host[:port]`: those at which something is resolved, or waits.
    registries: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Default for ImageRoom {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(IMAGES_AT_A_TIME)), registries: Mutex::default() }
    }
}

impl ImageRoom {
    /// Waits for a place at the registry first, and takes none from the others meanwhile. `None`: there is no image to wait for.
    pub async fn enter(
        &self,
        distribution: &Distribution,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let image = distribution.spec.source.image.as_ref()?;
        self.enter_at(Reference::parse(&image.reference).ok()?.api_host()).await
    }

    /// The same for a registry, by `host[:port]`.
    pub async fn enter_at(&self, host: &str) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let registry = self.registry(host);
        // Never closed, so waiting cannot fail.
        let place = registry.acquire_owned().await.ok()?;
        Some((place, self.all.clone().acquire_owned().await.ok()?))
    }

    fn registry(&self, host: &str) -> Arc<Semaphore> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        registries.retain(|_, places| Arc::strong_count(places) > 1);
        let places = registries.entry(host.to_ascii_lowercase());
        places.or_insert_with(|| Arc::new(Semaphore::new(AT_ONE_REGISTRY))).clone()
    }
}

/// A manifest may be large, and waits until there is room for it.
pub(super) async fn wait_for_manifest<'a>(
    room: &'a Semaphore,
    distribution: &Distribution,
) -> Option<SemaphorePermit<'a>> {
    distribution.spec.source.http.as_ref()?.manifest_url.as_ref()?;
    // Never closed, so waiting cannot fail.
    room.acquire().await.ok()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::{Value, json};

    use super::*;

    fn distribution(source: &Value) -> Distribution {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {"source": source}})).unwrap()
    }

    fn image(reference: &str) -> Distribution {
        distribution(&json!({"image": {"reference": reference}}))
    }

    #[test]
    fn manifests_wait_for_each_other_and_files_for_nobody() {
        let room = Semaphore::new(1);
        let manifest = distribution(&json!({"http": {"manifestURL": "http://h/m"}}));
        let files = distribution(&json!({"http": {"files": [{"url": "http://h/f"}]}}));
        let first = wait_for_manifest(&room, &manifest).now_or_never().flatten();
        assert!(first.is_some());
        assert!(wait_for_manifest(&room, &manifest).now_or_never().is_none(), "there is no room");
        assert!(wait_for_manifest(&room, &files).now_or_never().is_some());
        drop(first);
        assert!(wait_for_manifest(&room, &manifest).now_or_never().flatten().is_some());
    }

    #[test]
    fn images_of_one_registry_wait_for_each_other_and_not_for_those_of_another() {
        let room = ImageRoom::default();
        let enter = |reference: &str| room.enter(&image(reference)).now_or_never();
        let mut inside: Vec<_> =
            (0..AT_ONE_REGISTRY).map(|n| enter(&format!("alpine:{n}")).flatten().unwrap()).collect();
        assert!(enter("docker.io/other/image").is_none(), "it is the same registry");
        let other = enter("r.example/a").flatten();
        assert!(other.is_some());
        inside.pop();
        assert!(enter("docker.io/other/image").flatten().is_some());
        drop((inside, other));
        assert!(enter("r.example/a").flatten().is_some());
        assert_eq!(room.registries.lock().unwrap().len(), 1, "what nobody uses is forgotten");
        assert!(room.enter(&distribution(&json!({"http": {"files": []}}))).now_or_never().is_some());
    }

    #[test]
    fn there_is_an_end_to_images_at_a_time_wherever_they_are() {
        let room = ImageRoom::default();
        let enter = |n: usize| room.enter(&image(&format!("r{n}.example/a"))).now_or_never();
        let mut inside: Vec<_> = (0..IMAGES_AT_A_TIME).map(|n| enter(n).flatten().unwrap()).collect();
        assert!(enter(100).is_none());
        inside.pop();
        assert!(enter(100).flatten().is_some());
    }
}
