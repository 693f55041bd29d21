//! Images by way of CRI (`runtime.v1`), as the kubelet sees them.

use crate::connection::{CALL_TIMEOUT, Runtime};
use crate::error::Error;
use crate::messages::cri;

/// The runtime's name and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `containerd`, `cri-o`.
    pub name: String,
    /// As it says it: `1.6.20~ds1`, `v2.1.9`.
    pub version: String,
}

/// What the runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is not ready for, with its reason. A node without a network plug-in is ready to pull all the same.
    pub not_ready: Vec<String>,
    /// Its configuration as JSON, where it tells: containerd up to 1.7.
    pub config: Option<String>,
}

/// An image as CRI lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its config.
    pub id: String,
    /// Names with a tag.
    pub tags: Vec<String>,
    /// Names with a digest, `repository@sha256:...`.
    pub digests: Vec<String>,
    /// Bytes on the disk, as the runtime counts them.
    pub size: u64,
    /// Whether the kubelet's garbage collection passes over it. containerd 1.6 does not tell.
    pub pinned: bool,
}

/// A file system that images lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFileSystem {
    /// A folder on it.
    pub mountpoint: String,
    /// Bytes that images take there.
    pub used_bytes: u64,
}

impl Runtime {
    /// Who is there.
    pub async fn version(&self) -> Result<Version, Error> {
        let question = cri::VersionRequest { version: "v1".into() };
        let answer: cri::VersionResponse =
            self.call("/runtime.v1.RuntimeService/Version", question, Some(CALL_TIMEOUT)).await?;
        Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// How it is.
    pub async fn status(&self) -> Result<Status, Error> {
        let question = cri::StatusRequest { verbose: true };
        let answer: cri::StatusResponse =
            self.call("/runtime.v1.RuntimeService/Status", question, Some(CALL_TIMEOUT)).await?;
        let conditions = answer.status.unwrap_or_default().conditions;
        let failed = conditions.into_iter().filter(|condition| !condition.status);
        let text = |c: cri::RuntimeCondition| format!("{}: {}: {}", c.r#type, c.reason, c.message);
        Ok(Status { not_ready: failed.map(text).collect(), config: answer.info.get("config").cloned() })
    }

    /// Pulls and unpacks `reference` (`registry/repository:tag`), through whatever mirrors the runtime has, without credentials. It must have
    /// `digest` afterwards (`sha256:...`), or it is another image than the one that was meant. Answers the image's id. Takes as long as it
    /// takes; dropped, the runtime stops pulling.
    pub async fn pull(&self, reference: &str, digest: &str) -> Result<String, Error> {
        let id = self.pull_any(reference).await?;
        let image = self.image(reference).await?;
        let digests = image.map(|image| image.digests).unwrap_or_default();
        if digests.iter().any(|found| found.rsplit_once('@').is_some_and(|(_, found)| found == digest)) {
            return Ok(id);
        }
        let found = if digests.is_empty() { "gone again".to_owned() } else { digests.join(", ") };
        Err(Error::OtherDigest { reference: reference.into(), wanted: digest.into(), found })
    }

    /// Pulls as the kubelet does for a pod with a pull secret: with user and password, and without a word of which host they are for. For tests
    /// of what mirrors and registries are shown then: sidecars have none.
    pub async fn pull_as(
        &self,
        reference: &str,
        (username, password): (&str, &str),
    ) -> Result<String, Error> {
        let image = image_request(reference).image;
        let (username, password) = (username.to_owned(), password.to_owned());
        let question = cri::PullImageRequest { image, auth: Some(cri::AuthConfig { username, password }) };
        let answer: cri::PullImageResponse =
            self.call("/runtime.v1.ImageService/PullImage", question, None).await?;
        Ok(answer.image_ref)
    }

    /// Pulls whatever `reference` is now.
    pub(crate) async fn pull_any(&self, reference: &str) -> Result<String, Error> {
        let answer: cri::PullImageResponse =
            self.call("/runtime.v1.ImageService/PullImage", image_request(reference), None).await?;
        Ok(answer.image_ref)
    }

    /// The image of that name or id, if the runtime has it.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let answer: cri::ImageStatusResponse = self
            .call("/runtime.v1.ImageService/ImageStatus", image_request(reference), Some(CALL_TIMEOUT))
            .await?;
        Ok(answer.image.map(Image::from))
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let answer: cri::ListImagesResponse = self
            .call("/runtime.v1.ImageService/ListImages", cri::ListImagesRequest {}, Some(CALL_TIMEOUT))
            .await?;
        Ok(answer.images.into_iter().map(Image::from).collect())
    }

    /// Removes an image by any of its names, and with it all of them, pinned or not. One that is not there is removed already.
    pub async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        let answer: Result<cri::RemoveImageResponse, Error> = self
            .call("/runtime.v1.ImageService/RemoveImage", image_request(reference), Some(CALL_TIMEOUT))
            .await;
        answer.map(drop).or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }

    /// Where images lie.
    pub async fn image_file_systems(&self) -> Result<Vec<ImageFileSystem>, Error> {
        let answer: cri::ImageFsInfoResponse = self
            .call("/runtime.v1.ImageService/ImageFsInfo", cri::ImageFsInfoRequest {}, Some(CALL_TIMEOUT))
            .await?;
        let read = |usage: cri::FilesystemUsage| ImageFileSystem {
            mountpoint: usage.fs_id.unwrap_or_default().mountpoint,
            used_bytes: usage.used_bytes.unwrap_or_default().value,
        };
        Ok(answer.image_filesystems.into_iter().map(read).collect())
    }
}

fn image_request(reference: &str) -> cri::ImageRequest {
    cri::ImageRequest { image: Some(cri::ImageSpec { image: reference.to_owned() }) }
}

impl From<cri::Image> for Image {
    fn from(image: cri::Image) -> Self {
        Self {
            id: image.id,
            tags: image.repo_tags,
            digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
        }
    }
}
