//! Pinned images: what the kubelet's garbage collection passes over (`containerd.services.images.v1`).

use std::collections::HashMap;

use crate::connection::{CALL_TIMEOUT, Runtime};
use crate::error::Error;
use crate::messages::containerd::{FieldMask, GetImageRequest, Image, ImageResponse, UpdateImageRequest};

/// containerd's CRI calls an image with this label pinned.
const LABEL: &str = "io.cri-containerd.pinned";
const PINNED: &str = "pinned";

impl Runtime {
    /// Pins an image by its name (`registry/repository:tag`, or with a digest). Every pull takes the pin off again, so this follows each, and
    /// each [`ImageEvent::Updated`](crate::ImageEvent). Answers whether there was something to do: without, nothing is written and no event
    /// comes of it.
    pub async fn pin(&self, name: &str) -> Result<bool, Error> {
        self.set_pin(name, PINNED).await
    }

    /// Takes the pin off. An image that is not there has none.
    pub async fn unpin(&self, name: &str) -> Result<bool, Error> {
        self.set_pin(name, "")
            .await
            .or_else(|error| if error.is_not_found() { Ok(false) } else { Err(error) })
    }

    /// An empty label is one that is taken away.
    async fn set_pin(&self, name: &str, value: &str) -> Result<bool, Error> {
        let question = GetImageRequest { name: name.to_owned() };
        let found: ImageResponse =
            self.call("/containerd.services.images.v1.Images/Get", question, Some(CALL_TIMEOUT)).await?;
        let Image { labels, target, .. } = found.image.unwrap_or_default();
        if labels.get(LABEL).map_or("", String::as_str) == value {
            return Ok(false);
        }
        let labels = HashMap::from([(LABEL.to_owned(), value.to_owned())]);
        let question = UpdateImageRequest {
            // The target is masked out and not written; but containerd 2.2 looks at it unasked, and dies where there is none.
            image: Some(Image { name: name.to_owned(), labels, target: Some(target.unwrap_or_default()) }),
            // Only this label: whatever else changes meanwhile is not ours to set back.
            update_mask: Some(FieldMask { paths: vec![format!("labels.{LABEL}")] }),
        };
        let _: ImageResponse =
            self.call("/containerd.services.images.v1.Images/Update", question, Some(CALL_TIMEOUT)).await?;
        Ok(true)
    }
}
