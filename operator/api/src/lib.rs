//! What sidecars ask of the operator over HTTPS, and what it answers.
//!
//! A sidecar shows the token of its ServiceAccount (audience [`AUDIENCE`], bound to its pod) as `Authorization: Bearer`;
//! the operator asks the API server (TokenReview) which pod on which node that is. Errors are an [`ErrorBody`] with a
//! status code: 401 no or bad token, 403 not this node's business, 404 no such revision, 409 the grant is lost,
//! 503 not the leader or not yet in sync (try again).

mod demand;

use serde::{Deserialize, Serialize};

pub use demand::{
    DEMAND_SECONDS, DEMANDS_PATH, DemandFailed, DemandGrant, DemandRequest, Demanded, HELD_SECONDS, Held,
    HeldBlob, MAX_HELD, SMALLEST_DEMAND,
};

/// The audience a sidecar's token must carry.
pub const AUDIENCE: &str = "samara.dev";
/// `POST` answers a [`Session`].
pub const SESSION_PATH: &str = "/v1/session";
/// `POST <prefix><revision>` with a [`GrantRequest`] answers a [`Grant`]; below it `/progress` ([`Progress`] -> [`Lease`]), `/complete`
/// ([`Completed`] -> 204) and `/failed` ([`Failed`] -> [`Retry`]), and of the node that the policy names so `/witness`
/// ([`Witnessed`] -> 204); who is not named so may say there that fetchers are faulty ([`reason::FETCHER_FAULTY`]).
pub const GRANTS_PATH: &str = "/v1/grants/";
/// How long a grant lasts without a sign of life, in seconds.
pub const GRANT_SECONDS: u64 = 30;

/// What every sidecar of the class gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Bearer token for the trackers of the class. Never log it.
    pub tracker_token: String,
}

/// The right and the means to read one revision's origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Names this grant in what follows; another election makes another id.
    pub id: String,
    /// Seconds until it lapses unless renewed by progress.
    pub expires_in_seconds: u64,
    /// What to read, sorted by path; at most 1,000,000.
    pub files: Vec<GrantedFile>,
    /// Which addresses the fetcher may connect to, from the class.
    pub origin_policy: OriginPolicy,
    /// Which form the torrent gets.
    pub torrent_version: TorrentVersion,
    /// SHA-256 (hex) that the content manifest must have, if the user declared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_digest: Option<String>,
    /// So many bytes per second may this node read from the origin, if the user said how many all fetchers may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_second: Option<u64>,
    /// How the content is shared while it is read; absent where it is shared only when it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<GrantedIngest>,
    /// What the origin has to be shown, if anything. It lapses; [`Lease::authorization`] has a newer one in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// The value of an `Authorization` header, and who may see it. Never log it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// `scheme://host[:port]` of the one origin that it is for, the port only where it is not the scheme's own.
    pub origin: String,
    /// The header's value.
    pub value: String,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What a node says when it asks for a grant. An empty body is one without a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    /// The Ed25519 key (64 hex digits) with which it will sign the hashes of what it reads. Without one the grant has no
    /// [`GrantedIngest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The right to say what the pieces of a revision hash to, and which of them to read first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantedIngest {
    /// The revision's `policy.ingest.id`. The outline that the grant's files make has this SHA-256, with the revision's name as
    /// its `about`, and `epoch`, `key` and the torrent's version.
    pub id: String,
    /// See the revision's `policy.ingest`.
    pub epoch: u32,
    /// The operator's Ed25519 key, 64 hex digits.
    pub key: String,
    /// `torrent::ingest::Warrant` for the node's key, in hex.
    pub warrant: String,
    /// Which of the fetchers this is, from 0. The first one makes metainfo and manifest.
    pub index: u32,
    /// How many fetchers there are. Each reads its own stripes first, then helps with what is left.
    pub of: u32,
}

/// One file of the origin, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantedFile {
    /// Where it goes, relative, `/`-separated.
    pub path: String,
    /// Where it comes from; empty where [`Self::text`] has it. May carry a signature in its query: never log it whole.
    pub url: String,
    /// All of its bytes, where they are a few of UTF-8 that the operator has: nobody reads them anywhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 (hex) of its bytes, if declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The strong validator seen when it was resolved: reads carry `If-Match`/`If-Range` with it (RFC 9110 section 13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified` as seen then; the validator where there is no ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl GrantedFile {
    /// The declared digest; `None` if there is none that can be read.
    pub fn declared(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        hex::decode_to_slice(self.sha256.as_deref()?, &mut digest).ok()?;
        Some(digest)
    }
}

/// Which addresses may be dialled: `deny` wins over `allow`, `allow` over the built-in denials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginPolicy {
    /// CIDRs, host names, or `*.suffix`.
    pub allow: Vec<String>,
    /// CIDRs, host names, or `*.suffix`.
    pub deny: Vec<String>,
}

/// Which forms of metainfo a torrent has (BEP 3, BEP 52).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TorrentVersion {
    /// v1 and v2 in one.
    #[default]
    Hybrid,
    /// BEP 52 only.
    V2,
    /// BEP 3 only.
    V1,
}

/// A sign of life, sent every 5 s while fetching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// [`Grant::id`].
    pub grant: String,
    /// Bytes of the revision that are on this node's disk.
    pub bytes: u64,
    /// Of those, bytes read from the origin under this grant.
    pub origin_bytes: u64,
    /// Bytes read, written or hashed under this grant: it grows as long as the fetcher gets on, also while it hashes what lies on its
    /// disk and `bytes` stands still.
    pub worked: u64,
}

/// The grant goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Seconds until it lapses.
    pub expires_in_seconds: u64,
    /// See [`GrantedIngest::index`]: it changes when fetchers come or go.
    #[serde(default)]
    pub index: u32,
    /// See [`GrantedIngest::of`]; 0 from an operator that knows of none but this one.
    #[serde(default)]
    pub of: u32,
    /// See [`Grant::bandwidth_per_second`]: it changes with the number of fetchers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_second: Option<u64>,
    /// See [`Grant::authorization`]: what holds from now on. Without one the old one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// The whole content is on the fetcher's disk and its metainfo at the trackers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completed {
    /// [`Grant::id`].
    pub grant: String,
    /// Hex infohashes of the torrent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_hash_v1: Option<String>,
    /// 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_hash_v2: Option<String>,
    /// SHA-256 (hex) of the content manifest.
    pub manifest_digest: String,
    /// Payload bytes.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Payload bytes read from the origin for it.
    pub origin_bytes: u64,
}

/// The fetch did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// [`Grant::id`].
    pub grant: String,
    /// A condition's reason, CamelCase: [`crate::reason`].
    pub reason: String,
    /// What failed, on what, and what to do; without secrets.
    pub message: String,
    /// The nodes that have signed what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accused: Vec<String>,
}

/// The second word on what fetchers read: of a node that got it from its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Witnessed {
    /// The ingest that it is about: `policy.ingest.id` of the revision.
    pub ingest: String,
    /// What it came to.
    pub verdict: Verdict,
}

/// What a witness came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// The files that it has are what was declared, and make this manifest.
    Confirms {
        /// SHA-256 (hex) of the content manifest.
        manifest_digest: String,
    },
    /// They are not.
    Contradicts {
        /// A condition's reason, CamelCase: [`crate::reason`].
        reason: String,
        /// What is wrong with which file; without secrets.
        message: String,
        /// The nodes that have signed it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        accused: Vec<String>,
    },
}

/// When to try again; the operator may meanwhile have resolved the source anew (the grant is then lost).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Seconds to wait.
    pub after_seconds: u64,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What failed and what to do.
    pub error: String,
}

/// The reasons that conditions, failures and node entries share.
pub mod reason {
    /// The origin answered 404 or 410.
    pub const ORIGIN_NOT_FOUND: &str = "OriginNotFound";
    /// The origin answered another error, dropped the connection or cannot be reached.
    pub const ORIGIN_UNAVAILABLE: &str = "OriginUnavailable";
    /// The origin asks for credentials (401, 403).
    pub const ORIGIN_UNAUTHORIZED: &str = "OriginUnauthorized";
    /// The class does not allow this address.
    pub const ORIGIN_DENIED: &str = "OriginDenied";
    /// The origin gave more or fewer bytes than it had said.
    pub const ORIGIN_LENGTH_MISMATCH: &str = "OriginLengthMismatch";
    /// ETag, Last-Modified or length are not those that were resolved.
    pub const SOURCE_CHANGED: &str = "SourceChanged";
    /// Fetchers say different things about the same bytes, or one of them signs what is not so.
    pub const FETCHER_FAULTY: &str = "FetcherFaulty";
    /// A declared sha256, or `expectedDigest`, is not that of the bytes.
    pub const DIGEST_MISMATCH: &str = "DigestMismatch";
    /// The manifest behind `manifestURL`, or a path in it, is not acceptable; or that of an image.
    pub const INVALID_MANIFEST: &str = "InvalidManifest";
    /// The image is not there for the platforms that are wanted.
    pub const NO_SUCH_PLATFORM: &str = "NoSuchPlatform";
    /// A Secret that the source names is not there, cannot be read or holds something else.
    pub const SECRET_UNAVAILABLE: &str = "SecretUnavailable";
    /// A path would leave the dataset or cannot stand on disk.
    pub const INVALID_PATH: &str = "InvalidPath";
    /// Not enough space under the data root.
    pub const DISK_FULL: &str = "DiskFull";
    /// The class's quota would be exceeded.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// Something that is not ours stands where the dataset's link belongs.
    pub const PATH_OCCUPIED: &str = "PathOccupied";
    /// A read or write under the data root failed.
    pub const DISK_ERROR: &str = "DiskError";
    /// Another revision of the node has the same bytes and is getting them.
    pub const SAME_BYTES_COMING: &str = "SameBytesComing";
    /// The metainfo or manifest is at no tracker.
    pub const METAINFO_UNAVAILABLE: &str = "MetainfoUnavailable";
    /// The class's sidecars do not handle images.
    pub const IMAGES_OFF: &str = "ImagesOff";
    /// The node's container runtime does not answer.
    pub const RUNTIME_UNAVAILABLE: &str = "RuntimeUnavailable";
    /// The container runtime could not pull the image from this node's mirror.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// The kubelet's garbage collection has removed the image.
    pub const IMAGE_EVICTED: &str = "ImageEvicted";
    /// The container runtime has another image under its name.
    pub const IMAGE_REPLACED: &str = "ImageReplaced";
    /// The data root of the class is not the one that this sidecar has.
    pub const ROOT_MISMATCH: &str = "RootMismatch";
}
