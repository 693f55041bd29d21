//! Grants: opened, kept alive, given back with a failure.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use crds::{Distribution, DistributionClass, DistributionRevision};
use jiff::Timestamp;
use kube::ResourceExt;
use operator_api::{
    Failed, GRANT_SECONDS, GrantRequest, GrantedIngest, Lease, Progress, Retry, TorrentVersion,
};
use torrent::ingest::PublicKey;

use super::granted::{Granted, Head};
use super::{Api, ApiFailure, Caller, access, body_if_any, warrant};
use crate::context::Context;
use crate::failure::Failure;
use crate::grants::{Place, Refusal};
use crate::index::{ObjectId, owner_key};
use crate::ledger::Ledger;
use crate::plan::Resolution;
use crate::queue::Urgency;
use crate::resolve::Resolved;

/// A revision that a caller may speak of, and whose it is.
#[derive(Clone)]
pub(super) struct Subject {
    pub revision: Arc<DistributionRevision>,
    pub distribution: Arc<Distribution>,
}

/// The revision in the path: of the caller's class, wanted, and not on its way out.
pub(super) fn subject(context: &Context, caller: &Caller, name: &str) -> Result<Subject, ApiFailure> {
    let index = context.index();
    let revision = index.revisions.named(name).cloned().ok_or_else(ApiFailure::no_revision)?;
    if revision.spec.class_name != caller.class {
        return Err(ApiFailure::forbidden("this revision is of another class"));
    }
    let owner = &revision.spec.distribution;
    let id = ObjectId { namespace: owner.namespace.clone(), name: owner.name.clone() };
    let distribution = index.distributions.by_id(&id).filter(|distribution| {
        distribution.metadata.uid.as_deref() == Some(owner.uid.as_str())
            && distribution.metadata.deletion_timestamp.is_none()
    });
    let distribution = distribution.cloned().filter(|_| !revision.spec.policy.deleting);
    match distribution {
        Some(distribution) => Ok(Subject { revision, distribution }),
        None => {
            Err(ApiFailure::forbidden("this revision is on its way out: nothing is fetched for it any more"))
        }
    }
}

/// What the revision's source is resolved to, if that is known and not in doubt.
pub(super) fn resolved(
    resolution: &Resolution,
    revision: &DistributionRevision,
) -> Result<Resolved, ApiFailure> {
    let resolved = resolution.resolved.as_ref().filter(|_| !resolution.stale);
    let resolved =
        resolved.ok_or_else(|| ApiFailure::unavailable("the source is being resolved; ask again"))?;
    if resolved.pin == revision.spec.content.pin {
        Ok(resolved.clone())
    } else {
        Err(ApiFailure::forbidden("the source is another by now: this revision is not fetched any more"))
    }
}

pub(super) async fn open(
    State(api): State<Api>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let result = async {
        let caller = api.caller(&headers).await?;
        let request: GrantRequest = body_if_any(request).await?;
        let key = warrant::key(&request)?;
        let subject = subject(&api.context, &caller, &revision)?;
        let mut granted = open_grant(&api.context, &caller, &subject, key)?;
        granted.head.authorization = access::open(&api.context, &caller, &subject, &granted.head.id).await?;
        tracing::info!(%revision, node = %caller.node, grant = %granted.head.id, "granted");
        let body = granted.into_body().map_err(|_| ApiFailure::unavailable("the grant cannot be written"))?;
        Ok(([(CONTENT_TYPE, "application/json")], body))
    };
    let result = result.await;
    api.answer("grant", result)
}

fn open_grant(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    key: Option<PublicKey>,
) -> Result<Granted, ApiFailure> {
    let class = context.index().classes.named(&caller.class).cloned();
    let class = class.ok_or_else(|| ApiFailure::unavailable("the class is not there; ask again"))?;
    let signer = key.and_then(|key| Some((context.serving.ingest_key()?, key)));
    let name = subject.revision.name_any();
    let mut ledger = context.ledger();
    let election = ledger.grants.view(&name);
    if !election.is_begun() && subject.revision.spec.policy.fetchers.contains(&caller.node) {
        return Err(ApiFailure::unavailable("this operator has just begun to lead; ask again"));
    }
    election.place(&caller.node).ok_or(Refusal::NotElected)?;
    let uid = subject.distribution.uid().unwrap_or_default();
    let resolution = ledger.distributions.get(&uid).map(|known| known.resolution.clone()).unwrap_or_default();
    let resolved = resolved(&resolution, &subject.revision)?;
    let shared = match &signer {
        Some((opener, _)) => warrant::name(subject, ledger.outlines.get(&name), opener)?,
        None => None,
    };
    let id = hex::encode(rand::random::<[u8; 16]>());
    let epoch = shared.as_ref().map(|(_, ingest)| ingest.epoch);
    let place = ledger.grants.of(&name).open(&caller.node, id.clone(), epoch, Timestamp::now())?;
    context.metrics.grants.set(ledger.grants.running());
    drop(ledger);
    let ingest = shared
        .zip(signer)
        .map(|(shared, (opener, key))| warrant::warrant(&opener, &shared, &caller.node, key, place));
    Ok(Granted { head: head(id, subject, &class, place, ingest.transpose()?), files: resolved.files })
}

fn head(
    id: String,
    subject: &Subject,
    class: &DistributionClass,
    place: Place,
    ingest: Option<GrantedIngest>,
) -> Head {
    let spec = &subject.distribution.spec;
    let expected = spec.expected_digest.as_ref();
    Head {
        id,
        expires_in_seconds: GRANT_SECONDS,
        origin_policy: crate::distribution::policy(class),
        torrent_version: match spec.torrent.version {
            crds::TorrentVersion::Hybrid => TorrentVersion::Hybrid,
            crds::TorrentVersion::V2 => TorrentVersion::V2,
            crds::TorrentVersion::V1 => TorrentVersion::V1,
        },
        expected_digest: expected.map(|digest| digest.trim_start_matches("sha256:").to_owned()),
        bandwidth_per_second: share(&subject.distribution, place),
        ingest,
        authorization: None,
    }
}

/// What one of the fetchers may read in a second: as much as each of the others.
fn share(distribution: &Distribution, place: Place) -> Option<u64> {
    let all = crds::parse_quantity(distribution.spec.origin.bandwidth.as_deref()?)?;
    Some((all / u64::from(place.of.max(1))).max(1))
}

pub(super) async fn progress(
    State(api): State<Api>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let result = async {
        let (caller, progress, subject) = api.heard::<Progress>(&revision, &headers, request).await?;
        let place =
            api.context.ledger().grants.of(&revision).progress(&caller.node, &progress, Timestamp::now())?;
        api.context.queue.touch([(owner_key(&subject.revision), Urgency::Soon)]);
        let bandwidth_per_second = share(&subject.distribution, place);
        let (index, of) = (place.index, place.of);
        let authorization = access::current(&api.context, &caller, &subject);
        Ok(Json(Lease { expires_in_seconds: GRANT_SECONDS, index, of, bandwidth_per_second, authorization }))
    };
    let result = result.await;
    api.answer("progress", result)
}

pub(super) async fn failed(
    State(api): State<Api>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let result = async {
        let (caller, failed, subject) = api.heard::<Failed>(&revision, &headers, request).await?;
        let failure = Failure::new(&reason(&failed.reason), failed.message).accusing(failed.accused);
        let after_seconds = fail(&api.context, &caller, &subject, &failed.grant, failure)?;
        Ok(Json(Retry { after_seconds }).into_response())
    };
    let result = result.await;
    api.answer("failed", result)
}

/// Takes note of a failure, and doubts the source where that is its reason.
pub(super) fn fail(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    grant: &str,
    failure: Failure,
) -> Result<u64, ApiFailure> {
    let (now, jitter) = (Timestamp::now(), rand::random());
    let name = subject.revision.name_any();
    let doubted = failure.asks_for_resolving();
    tracing::warn!(revision = %name, node = %caller.node, reason = %failure.reason, message = %failure.message, "fetch failed");
    let mut ledger = context.ledger();
    let after_seconds = ledger.grants.of(&name).fail(&caller.node, grant, failure, jitter, now)?;
    context.metrics.grants.set(ledger.grants.running());
    if doubted {
        doubt(&mut ledger, subject, jitter, now);
    }
    drop(ledger);
    context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
    Ok(after_seconds)
}

/// The registry wants to be left alone for so long: the grant ends, and that is no failure of its node.
pub(super) fn rest(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    grant: &str,
    failure: Failure,
    pause: Duration,
) -> Result<(), ApiFailure> {
    let name = subject.revision.name_any();
    tracing::warn!(revision = %name, reason = %failure.reason, message = %failure.message, "the registry names a time");
    let now = Timestamp::now();
    let mut ledger = context.ledger();
    ledger.grants.of(&name).rest(&caller.node, grant, failure, now.checked_add(pause).unwrap_or(now))?;
    context.metrics.grants.set(ledger.grants.running());
    drop(ledger);
    context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
    Ok(())
}

/// The source has to be looked at again before anybody reads.
pub(super) fn doubt(ledger: &mut Ledger, subject: &Subject, jitter: f64, now: Timestamp) {
    ledger.coming.remove(&subject.revision.name_any());
    let uid = subject.distribution.uid().unwrap_or_default();
    ledger.distributions.entry(uid).or_default().doubt(jitter, now);
}

/// A reason fit for a condition: CamelCase, at most 64 characters.
pub(super) fn reason(said: &str) -> String {
    let fit: String = said.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    if fit.starts_with(|c: char| c.is_ascii_alphabetic()) { fit } else { "FetchFailed".to_owned() }
}
