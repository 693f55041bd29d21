//! What happens to images behind our back (`containerd.services.events.v1`).

use futures::{Stream, StreamExt as _};
use prost::Message as _;

use crate::connection::Runtime;
use crate::error::Error;
use crate::messages::containerd::{self, Envelope, SubscribeRequest};

const METHOD: &str = "/containerd.services.events.v1.Events/Subscribe";
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
    /// Events of images from now on. An error is the last item; then look at everything and subscribe anew, since what happened meanwhile is
    /// not told.
    pub async fn image_events(&self) -> Result<impl Stream<Item = Result<ImageEvent, Error>> + use<>, Error> {
        let filters = [UPDATE, DELETE].map(|topic| format!("topic==\"{topic}\",namespace==k8s.io"));
        let events = self.stream::<_, Envelope>(METHOD, SubscribeRequest { filters: filters.into() }).await?;
        let this = self.clone();
        Ok(events.filter_map(move |event| {
            let event = event.map(read).map_err(|status| this.failed(METHOD, &status)).transpose();
            std::future::ready(event)
        }))
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
