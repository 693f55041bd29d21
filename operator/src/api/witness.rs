//! The second word on what was declared of the content, by a node that got it from its peers.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use kube::ResourceExt;
use operator_api::{Verdict, Witnessed};

use super::grants::{Subject, doubt, reason, subject};
use super::{Api, ApiFailure, Caller, body};
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
        let caller = api.caller(&headers).await?;
        let said: Witnessed = body(request).await?;
        let subject = subject(&api.context, &caller, &revision)?;
        take_in(&api.context, &caller, &subject, said)?;
        api.context.queue.touch([(owner_key(&subject.revision), Urgency::Now)]);
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    api.answer("witness", result)
}

fn take_in(context: &Context, caller: &Caller, subject: &Subject, said: Witnessed) -> Result<(), ApiFailure> {
    let (now, jitter) = (Timestamp::now(), rand::random());
    let name = subject.revision.name_any();
    let current = subject.revision.spec.policy.ingest.as_ref().filter(|ingest| ingest.id == said.ingest);
    let epoch = current.ok_or(Refusal::Anew)?.epoch;
    let mut ledger = context.ledger();
    let election = ledger.grants.of(&name);
    if election.doubt(epoch).is_some() {
        return Err(Refusal::Anew.into());
    }
    let outcome = match said.verdict {
        Verdict::Confirms { manifest_digest } => {
            tracing::info!(revision = %name, node = %caller.node, "confirmed");
            election.testify(&caller.node, &manifest_digest, jitter, now).map(|_| ())
        }
        Verdict::Contradicts { reason: said, message } => {
            tracing::warn!(revision = %name, node = %caller.node, reason = said, message, "contradicted");
            election.contradict(&caller.node, &Failure::new(&reason(&said), message), jitter, now)
        }
    };
    if matches!(outcome, Err(Refusal::NotWitness)) {
        return Err(Refusal::NotWitness.into());
    }
    if election.doubt(epoch).is_some() {
        doubt(&mut ledger, subject, jitter, now);
    }
    context.metrics.grants.set(ledger.grants.running());
    Ok(())
}
