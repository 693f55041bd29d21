//! Completions: what the fetcher says it has built is checked, confirmed by a second node where something was declared, written into the
//! revision, and only then acknowledged.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use crds::{DistributionRevision, Torrent};
use jiff::Timestamp;
use kube::ResourceExt;
use operator_api::{Completed, reason};
use tokio::time::Instant;

use super::grants::{Subject, doubt, fail, resolved};
use super::{Api, ApiFailure, Caller};
use crate::context::Context;
use crate::failure::Failure;
use crate::grants::{Built, Refusal};
use crate::index::owner_key;
use crate::queue::Urgency;
use crate::resolve::Resolved;
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
        let (caller, said, subject) = api.heard::<Completed>(&revision, &headers, request).await?;
        if confirms(&subject.revision, &said) && subject.revision.spec.policy.fetchers.is_empty() {
            // The answer to the first time was lost.
            return Ok(StatusCode::NO_CONTENT);
        }
        take_in(&api.context, &caller, &subject, &said).await?;
        api.context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
        written(&api.context, &revision, &said).await?;
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    api.answer("complete", result)
}

/// Checks what was built, and takes note of it. A fetcher says it again while a second word is waited for: then it was checked before.
async fn take_in(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    said: &Completed,
) -> Result<(), ApiFailure> {
    let name = subject.revision.name_any();
    {
        let mut ledger = context.ledger();
        let election = ledger.grants.of(&name);
        election.check(&caller.node, &said.grant)?;
        if election
            .claimed(&caller.node)
            .is_some_and(|built| is_said(&built.torrent, &built.manifest_digest, said))
        {
            return Ok(());
        }
    }
    let resolution = resolution(context, subject)?;
    let built = check(context, caller, subject, said, &resolution).await?;
    // First the trackers, then the nodes: whoever sees the torrents announces at once.
    context.ledger().coming.insert(name.clone(), built.clone());
    register(context, &caller.class).await;
    let (mut ledger, now, jitter) = (context.ledger(), Timestamp::now(), rand::random());
    let election = ledger.grants.of(&name);
    // Others have what it read only if it shared that.
    let shared = election.grant(&caller.node).is_some_and(|grant| grant.epoch.is_some());
    if resolution.is_declared(&subject.distribution.spec)
        && shared
        && subject.revision.spec.torrents.is_empty()
    {
        let claimed = election.claim(&caller.node, &said.grant, built, jitter, now);
        if claimed.is_err() {
            ledger.coming.remove(&name);
        }
        if claimed == Err(Refusal::Anew) {
            doubt(&mut ledger, subject, jitter, now);
            context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
        }
        claimed?;
    } else {
        election.complete(&caller.node, &said.grant, built)?;
    }
    drop(ledger);
    tracing::info!(revision = %name, node = %caller.node, "built");
    Ok(())
}

fn resolution(context: &Context, subject: &Subject) -> Result<Resolved, ApiFailure> {
    let uid = subject.distribution.uid().unwrap_or_default();
    let known = context.ledger().distributions.get(&uid).map(|known| known.resolution.clone());
    resolved(&known.unwrap_or_default(), &subject.revision)
}

/// Whether the revision carries what the fetcher says.
fn confirms(revision: &DistributionRevision, said: &Completed) -> bool {
    let (torrent, digest) = (revision.spec.torrents.first(), revision.spec.manifest_digest.as_ref());
    torrent.zip(digest).is_some_and(|(torrent, digest)| is_said(torrent, digest, said))
}

fn is_said(torrent: &Torrent, manifest_digest: &str, said: &Completed) -> bool {
    torrent.info_hash_v1 == said.info_hash_v1
        && torrent.info_hash_v2 == said.info_hash_v2
        && manifest_digest == said.manifest_digest
}

async fn check(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    said: &Completed,
    resolution: &Resolved,
) -> Result<Built, ApiFailure> {
    let files = resolution.files.clone();
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
    Err(ApiFailure::unavailable(
        "another node is to confirm it, or it could not be written yet; say it again",
    ))
}
