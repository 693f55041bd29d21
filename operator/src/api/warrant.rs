//! The right to say what a revision's pieces hash to, as part of a grant.

use crds::{DistributionRevision, Ingest, TorrentVersion};
use operator_api::{GrantRequest, GrantedIngest};
use torrent::IngestId;
use torrent::ingest::{PublicKey, SigningKey, Warrant};

use super::ApiFailure;
use super::grants::Subject;
use crate::grants::Place;
use crate::outline::{Name, Outlined};

/// The key with which a node will sign, if it sent one.
pub(super) fn key(request: &GrantRequest) -> Result<Option<PublicKey>, ApiFailure> {
    request.key.as_deref().map(parse).transpose()
}

/// Such a key.
pub(super) fn parse(text: &str) -> Result<PublicKey, ApiFailure> {
    PublicKey::parse(text)
        .ok_or_else(|| ApiFailure::bad_request("key is not an Ed25519 key in 64 hex digits"))
}

/// The name under which what is read is shared; none where it is shared when it is whole: v1-only content, files that cannot be
/// outlined, and content that is read again because its copies were lost.
pub(super) fn name(
    subject: &Subject,
    outlined: Option<&Outlined>,
    opener: &SigningKey,
) -> Result<Option<(IngestId, Ingest)>, ApiFailure> {
    let revision: &DistributionRevision = &subject.revision;
    let v1 = subject.distribution.spec.torrent.version == TorrentVersion::V1;
    if v1 || !revision.spec.torrents.is_empty() {
        return Ok(None);
    }
    let outlined = outlined.filter(|outlined| outlined.key == opener.public());
    match (outlined.map(|outlined| outlined.name), &revision.spec.policy.ingest) {
        (Some(Name::Impossible), None) => Ok(None),
        (Some(Name::Known(id)), Some(ingest)) if id.to_string() == ingest.id => {
            Ok(Some((id, ingest.clone())))
        }
        _ => Err(ApiFailure::unavailable("the files are being outlined; ask again")),
    }
}

/// The operator's word for a node. It binds the node's name to its key, for this ingest only.
pub(super) fn warrant(
    opener: &SigningKey,
    (id, ingest): &(IngestId, Ingest),
    node: &str,
    key: PublicKey,
    place: Place,
) -> Result<GrantedIngest, ApiFailure> {
    let warrant = Warrant::new(opener, *id, node, key)
        .map_err(|_| ApiFailure::forbidden("the node's name is too long for a warrant"))?;
    Ok(GrantedIngest {
        id: ingest.id.clone(),
        epoch: u32::try_from(ingest.epoch).unwrap_or_default(),
        key: opener.public().to_string(),
        warrant: hex::encode(warrant.encode()),
        index: place.index,
        of: place.of,
    })
}
