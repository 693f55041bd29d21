//! What happens to the runtime's images, told to those who have them to look after: a pin that a pull takes off is set again, and what the
//! kubelet has removed is let go of, at once and not when somebody looks next.

use std::sync::Arc;
use std::time::Duration;

use crds::RevisionImage;
use futures::StreamExt as _;
use runtime::{ImageEvent, Runtime};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::host::HostState;
use super::materialize::runtime_name;
use crate::jobs::stoppable;

/// Events that wait for somebody who is slow; who misses some looks anyway.
const QUEUE: usize = 64;
/// Pause before the runtime is asked for its events again. It may have none to tell: CRI-O.
const RETRY: Duration = Duration::from_secs(30);
/// An image has several names, and events of all of them come together.
const TOGETHER: Duration = Duration::from_millis(300);

/// Something happened to the image of this name; none: perhaps to any.
type Happened = Option<Arc<str>>;

/// Where events come from.
#[derive(Clone, Debug)]
pub(super) struct Events(broadcast::Sender<Happened>);

/// The events of one image.
#[derive(Debug)]
pub struct Touched {
    events: broadcast::Receiver<Happened>,
    name: String,
    digest: String,
}

impl Events {
    /// Listens to the runtime, once it has been found, until `shutdown`.
    pub fn listen(host: watch::Receiver<HostState>, shutdown: CancellationToken) -> Self {
        let events = Self(broadcast::Sender::new(QUEUE));
        let listening = events.clone();
        tokio::spawn(async move { stoppable(&shutdown, listening.run(host)).await });
        events
    }

    pub fn of(&self, image: &RevisionImage) -> Touched {
        let (name, digest) = (runtime_name(image), format!("@{}", image.digest));
        Touched { events: self.0.subscribe(), name, digest }
    }

    async fn run(self, mut host: watch::Receiver<HostState>) {
        loop {
            let found = host.wait_for(|state| state.runtime.is_some()).await;
            let Some(runtime) = found.ok().and_then(|state| state.runtime.clone()) else { return };
            if let Err(error) = self.forward(&runtime).await {
                tracing::debug!(%error, "no events of images; they are looked at now and then");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn forward(&self, runtime: &Runtime) -> Result<(), runtime::Error> {
        let mut events = std::pin::pin!(runtime.image_events().await?);
        // What happened before nobody has told.
        self.tell(None);
        while let Some(event) = events.next().await {
            let (ImageEvent::Updated(name) | ImageEvent::Deleted(name)) = event?;
            self.tell(Some(name.into()));
        }
        Ok(())
    }

    fn tell(&self, happened: Happened) {
        // An error says that there is nobody to be told.
        self.0.send(happened).ok();
    }
}

impl Touched {
    /// Waits until something has happened that may be to this image.
    pub async fn wait(&mut self) {
        loop {
            match self.events.recv().await {
                Ok(Some(name)) if *name != *self.name && !name.ends_with(&self.digest) => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
        tokio::time::sleep(TOGETHER).await;
        self.events = self.events.resubscribe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RevisionImage {
        serde_json::from_value(serde_json::json!({
            "reference": "registry.example/app:v1", "digest": format!("sha256:{}", "a".repeat(64)), "mediaType": "a/b",
            "manifests": [], "leftOut": 0, "access": "Cluster", "materialize": "Image", "pin": false,
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_hears_of_its_own_names_and_of_what_may_have_been_missed() {
        let events = Events(broadcast::Sender::new(QUEUE));
        let mut touched = events.of(&image());
        let quiet = Duration::from_mins(1);
        let tell = |name: &str| events.tell(Some(name.into()));
        tell("registry.example/other:v1");
        assert!(tokio::time::timeout(quiet, touched.wait()).await.is_err(), "another image's");
        tell("registry.example/app:v1");
        tokio::time::timeout(quiet, touched.wait()).await.unwrap();
        tell(&format!("registry.example/app@sha256:{}", "a".repeat(64)));
        tokio::time::timeout(quiet, touched.wait()).await.unwrap();
        events.tell(None);
        tokio::time::timeout(quiet, touched.wait()).await.unwrap();
        (0..=QUEUE).for_each(|_| tell("registry.example/other:v1"));
        tokio::time::timeout(quiet, touched.wait()).await.unwrap();
        assert!(tokio::time::timeout(quiet, touched.wait()).await.is_err(), "and of each once");
    }
}
