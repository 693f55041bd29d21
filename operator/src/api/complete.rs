//! Completions: what the fetcher says it has built is checked, written into the revision, and only then confirmed.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use crds::{DistributionRevision, Torrent};
use kube::ResourceExt;
use operator_api::{Completed, reason};
use tokio::time::Instant;

use super::grants::{Subject, fail, resolved, subject};
use super::{Api, ApiFailure, Caller, body};
use crate::context::Context;
use crate::failure::Failure;
use crate::grants::Built;
use crate::index::owner_key;
use crate::queue::Urgency;
use crate::trackers::{At, Rejection, register, urls, verify};

/// How long the confirmation waits for the write.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn complete(
    State(api): State<Api>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let result = async {
        let caller = api.caller(&headers).await?;
        let said: Completed = body(request).await?;
        let subject = subject(&api.context, &caller, &revision)?;
        if confirms(&subject.revision, &said) && subject.revision.spec.policy.fetchers.is_empty() {
            // The answer to the first time was lost.
            return Ok(StatusCode::NO_CONTENT);
        }
        api.context.ledger().grants.of(&revision).check(&caller.node, &said.grant)?;
        let built = check(&api.context, &caller, &subject, &said).await?;
        // First the trackers, then the nodes: whoever sees the torrents announces at once.
        api.context.ledger().coming.insert(revision.clone(), built.clone());
        register(&api.context, &caller.class).await;
        finish(&api.context, &caller, &subject, &said.grant, built)?;
        tracing::info!(%revision, node = %caller.node, "built");
        api.context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
        written(&api.context, &revision, &said).await?;
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    api.answer("complete", result)
}

/// Takes note of what was built; from now on nothing of the source is in doubt.
fn finish(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    grant: &str,
    built: Built,
) -> Result<(), ApiFailure> {
    let mut ledger = context.ledger();
    ledger.grants.of(&subject.revision.name_any()).complete(&caller.node, grant, built)?;
    if let Some(known) = ledger.distributions.get_mut(&subject.distribution.uid().unwrap_or_default()) {
        known.confirm();
    }
    Ok(())
}

/// Whether the revision carries what the fetcher says.
fn confirms(revision: &DistributionRevision, said: &Completed) -> bool {
    let same = |torrent: &Torrent| {
        torrent.info_hash_v1 == said.info_hash_v1 && torrent.info_hash_v2 == said.info_hash_v2
    };
    revision.spec.torrents.first().is_some_and(same)
        && revision.spec.manifest_digest.as_ref() == Some(&said.manifest_digest)
}

async fn check(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    said: &Completed,
) -> Result<Built, ApiFailure> {
    let uid = subject.distribution.uid().unwrap_or_default();
    let resolution =
        context.ledger().distributions.get(&uid).map(|known| known.resolution.clone()).unwrap_or_default();
    let files = resolved(&resolution, &subject.revision)?.files;
    let (metainfo, manifest) = stored(context, caller, said).await?;
    let spec = &subject.distribution.spec;
    let (version, expected) = (spec.torrent.version, spec.expected_digest.clone());
    let checked = {
        let said = said.clone();
        tokio::task::spawn_blocking(move || {
            verify(&said, &files, version, expected.as_deref(), &metainfo, &manifest)
        })
    };
    let checked = checked
        .await
        .map_err(|_| ApiFailure::unavailable("the metainfo cannot be checked now; ask again"))?;
    let built = checked.and_then(|built| agrees(&subject.revision, built));
    built.map_err(|rejection| {
        let failure = Failure::new(reason_of(&rejection), rejection.to_string());
        match fail(context, caller, subject, &said.grant, failure) {
            Ok(_) => ApiFailure::lost(rejection.to_string()),
            Err(lost) => lost,
        }
    })
}

/// Torrents are written once: one that is fetched a second time has to become the same.
fn agrees(revision: &DistributionRevision, built: Built) -> Result<Built, Rejection> {
    let same = revision.spec.torrents.is_empty()
        || (revision.spec.torrents[0] == built.torrent
            && revision.spec.manifest_digest.as_ref() == Some(&built.manifest_digest));
    if same {
        Ok(built)
    } else {
        Err(Rejection::Disagreement(
            "the origin gave other bytes than the first time: edit the source".to_owned(),
        ))
    }
}

fn reason_of(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Metainfo(_) | Rejection::Manifest(_) => reason::METAINFO_UNAVAILABLE,
        Rejection::Disagreement(_) => reason::DIGEST_MISMATCH,
    }
}

/// Metainfo and manifest from the first tracker that has both.
async fn stored(context: &Context, caller: &Caller, said: &Completed) -> Result<(Bytes, Bytes), ApiFailure> {
    let not_there =
        || ApiFailure::unavailable("metainfo or manifest lies at no tracker that answers; send it again");
    let infohash = said.info_hash_v2.as_ref().or(said.info_hash_v1.as_ref());
    let infohash =
        infohash.filter(|hash| is_hex(hash)).ok_or_else(|| ApiFailure::bad_request("no infohash"))?;
    if !is_hex(&said.manifest_digest) {
        return Err(ApiFailure::bad_request("manifestDigest is not a SHA-256 in hex"));
    }
    let token = context.ledger().tokens.get(&caller.class).cloned().ok_or_else(not_there)?;
    let trackers = urls(&context.index(), &caller.class, &context.settings.namespace);
    for (_, url) in &trackers {
        let at = At { url, token: &token };
        let both = async {
            let metainfo = context.trackers.metainfo(&at, infohash).await?;
            Ok::<_, crate::trackers::TrackerError>((
                metainfo,
                context.trackers.manifest(&at, &said.manifest_digest).await?,
            ))
        };
        match both.await {
            Ok((Some(metainfo), Some(manifest))) => return Ok((metainfo, manifest)),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "asking the next tracker"),
        }
    }
    Err(not_there())
}

fn is_hex(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Waits until the torrents stand in the revision: from then on no crash of ours can lose them.
async fn written(context: &Context, revision: &str, said: &Completed) -> Result<(), ApiFailure> {
    let deadline = Instant::now() + WRITTEN_WITHIN;
    while Instant::now() < deadline {
        let now = context.index().revisions.named(revision).cloned();
        if now.is_some_and(|revision| confirms(&revision, said)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(ApiFailure::unavailable("the torrents could not be written yet; say it again"))
}
