//! What happens to images behind our back (`containerd.services.events.v1`).

use std::time::Duration;

use futures::{FutureExt as _, Stream, TryStreamExt as _, stream};
use prost::Message as _;

use crate::connection::Runtime;
use crate::error::Error;
use crate::messages::containerd::{self, Envelope, SubscribeRequest};

const METHOD: &str = "/containerd.services.events.v1.Events/Subscribe";
/// How long a refusal may take.
const REFUSAL: Duration = Duration::from_millis(500);
const UPDATE: &str = "/images/update";
const DELETE: &str = "/images/delete";

/// Something that happened to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEvent {
    /// It was pulled again or labelled. A pull takes pins off.
    Updated(String),
    /// One of its names is gone: its layers may be let go of.
    Deleted(String),
}

impl Runtime {
    /// Events of images from about now on: containerd does not say when it begins to tell. So subscribe, then look at everything, then
    /// listen. An error is the last item; then do the same again, since what happened meanwhile is not told.
    pub async fn image_events(&self) -> Result<impl Stream<Item = Result<ImageEvent, Error>> + use<>, Error> {
        let this = self.clone();
        let mut call = async move {
            let filters = [UPDATE, DELETE].map(|topic| format!("topic==\"{topic}\",namespace==k8s.io"));
            let question = SubscribeRequest { filters: filters.into() };
            let events = this.stream::<_, Envelope>(METHOD, question).await?;
            Ok(events.map_err(move |status| this.failed(METHOD, &status)))
        }
        .boxed();
        // The headers of the answer come with the first event only, a refusal at once.
        if let Ok(answered) = tokio::time::timeout(REFUSAL, &mut call).await {
            call = std::future::ready(Ok(answered?)).boxed();
        }
        let events = stream::once(call).try_flatten();
        Ok(events.try_filter_map(|event| std::future::ready(Ok(read(event)))))
    }
}

/// None for what was not asked for.
fn read(envelope: Envelope) -> Option<ImageEvent> {
    let event = containerd::ImageEvent::decode(envelope.event?.value.as_slice()).ok()?;
    match envelope.topic.as_str() {
        UPDATE => Some(ImageEvent::Updated(event.name)),
        DELETE => Some(ImageEvent::Deleted(event.name)),
        _ => None,
    }
}
