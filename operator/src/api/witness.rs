//! The second word on what was declared of the content, by a node that got it from its peers.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use kube::ResourceExt;
use operator_api::{Verdict, Witnessed};

use super::grants::{Subject, doubt, reason};
use super::{Api, ApiFailure, Caller};
use crate::context::Context;
use crate::failure::Failure;
use crate::grants::Refusal;
use crate::index::owner_key;
use crate::queue::Urgency;

pub(super) async fn witness(
    State(api): State<Api>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let result = async {
        let (caller, said, subject) = api.heard::<Witnessed>(&revision, &headers, request).await?;
        // Most of its words it has said before, and they change nothing.
        if take_in(&api.context, &caller, &subject, said)? {
            api.context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
        }
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    api.answer("witness", result)
}

/// Answers whether that changes anything.
fn take_in(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    said: Witnessed,
) -> Result<bool, ApiFailure> {
    let (now, jitter) = (Timestamp::now(), rand::random());
    let (name, node) = (subject.revision.name_any(), &caller.node);
    let current = subject.revision.spec.policy.ingest.as_ref().filter(|ingest| ingest.id == said.ingest);
    let epoch = current.ok_or(Refusal::Anew)?.epoch;
    if !subject.revision.spec.torrents.is_empty() {
        // What is built is not in doubt any more, whoever has something to say about it.
        return Err(Refusal::NotWitness.into());
    }
    let mut ledger = context.ledger();
    let election = ledger.grants.of(&name);
    if election.doubt(epoch).is_some() {
        return Err(Refusal::Anew.into());
    }
    let counts = match said.verdict {
        Verdict::Confirms { manifest_digest } => election.testify(node, &manifest_digest, jitter, now),
        Verdict::Contradicts { reason: said, message, accused } => {
            let failure = Failure::new(&reason(&said), message).accusing(accused);
            election.contradict(node, epoch, failure, jitter, now).and(Err(Refusal::Anew))
        }
    };
    match counts {
        Ok(false) => Ok(false),
        Ok(true) => {
            tracing::info!(revision = %name, %node, "confirmed");
            Ok(true)
        }
        // Heard, and everything is read anew.
        Err(Refusal::Anew) => {
            let why = election.doubt(epoch).map(|doubt| doubt.failure.message.clone()).unwrap_or_default();
            tracing::warn!(revision = %name, %node, why, "contradicted");
            context.metrics.grants.set(ledger.grants.running());
            doubt(&mut ledger, subject, jitter, now);
            Ok(true)
        }
        Err(refusal) => Err(refusal.into()),
    }
}
