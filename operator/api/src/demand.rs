//! Images on demand: blobs that a node's container runtime asks for and that no revision has.

use serde::{Deserialize, Serialize};

use crate::{Authorization, OriginPolicy};

/// `POST` with a [`DemandRequest`] answers a [`Demanded`]; 403 and 404 say that this blob is the registry's to give. Below it `/held`
/// ([`Held`] -> 204) and `/failed` ([`DemandFailed`] -> 204).
pub const DEMANDS_PATH: &str = "/v1/demands";
/// How long a node that reads a blob may say nothing before another one may read it, in seconds. Shorter than what a container runtime waits for the next byte
/// (20 s), so that another node goes on before that.
pub const DEMAND_SECONDS: u64 = 12;
/// How often a node says what it holds, in seconds.
pub const HELD_SECONDS: u64 = 30;
/// The most blobs that one node holds.
pub const MAX_HELD: usize = 256;
/// Smaller blobs are not shared on demand, in bytes: asking for one takes as long as reading it.
pub const SMALLEST_DEMAND: u64 = 1 << 20;

/// A blob that somebody asks this node for. The node that reads it sends the same every few seconds, as a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemandRequest {
    /// The registry as images name it: `docker.io`, `registry.example.com:5000`.
    pub registry: String,
    /// The repository at the registry.
    pub repository: String,
    /// `sha256:<hex>`.
    pub digest: String,
    /// The Ed25519 key (64 hex digits) with which this node will sign the hashes of what it reads.
    pub key: String,
    /// It is shared here already and does not get on: whoever is said to hold it cannot be reached.
    #[serde(default)]
    pub stuck: bool,
}

/// A blob that is shared while it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demanded {
    /// The name of the swarm: `torrent::ingest::Outline::of_blob` of the class, the digest and what follows has this id.
    pub ingest: String,
    /// How often it was begun anew.
    pub epoch: u32,
    /// The operator's Ed25519 key, 64 hex digits.
    pub key: String,
    /// Bytes of the blob.
    pub size: u64,
    /// This node is the one that reads it. Without this it gets the blob from the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<DemandGrant>,
}

/// The right and the means to read a blob, until another node has it: it lasts [`DEMAND_SECONDS`] without a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemandGrant {
    /// `torrent::ingest::Warrant` for the node's key, in hex.
    pub warrant: String,
    /// Where the blob is.
    pub url: String,
    /// Which addresses may be connected to, from the class.
    pub origin_policy: OriginPolicy,
    /// What the registry gives to everyone who asks, if it wants to be shown anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// The blobs that a node has whole and shares; all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// At most [`MAX_HELD`].
    pub blobs: Vec<HeldBlob>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldBlob {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// [`Demanded::epoch`].
    pub epoch: u32,
}

/// A blob could not be read, or is not what its digest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemandFailed {
    /// `sha256:<hex>`.
    pub digest: String,
    /// [`Demanded::ingest`].
    pub ingest: String,
    /// One of [`crate::reason`].
    pub reason: String,
    /// What failed, on what; without secrets.
    pub message: String,
}
