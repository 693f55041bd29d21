//! What an origin has to be shown, as part of a grant: made when the grant is given, and anew before it lapses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use operator_api::Authorization;
use origin::registry::Opened;

use super::grants::{Subject, fail, rest};
use super::{ApiFailure, Caller};
use crate::context::Context;
use crate::distribution;
use crate::failure::Failure;
use crate::resolve::ResolveError;

/// A registry and its token server may take so long. Whoever waits for its grant must hear of it well before it lapses.
const PATIENCE: Duration = Duration::from_secs(10);

/// For a grant that was just opened. If it cannot be had the grant has failed, and the user hears why; where the registry itself names a
/// time it has ended, and no node has failed.
pub(super) async fn open(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    grant: &str,
) -> Result<Option<Authorization>, ApiFailure> {
    let name = subject.revision.name_any();
    let refusal = || context.ledger().opened.refusal(&name, Instant::now());
    let known = refusal();
    let failure = match known {
        Some((failure, _)) => failure,
        None => match ask(context, caller, subject).await {
            Ok(opened) => return Ok(keep(context, subject, opened)),
            Err(error) => took_failure(context, &name, &error),
        },
    };
    let (message, left_alone) = (failure.message.clone(), refusal());
    match left_alone {
        // Whichever node asks.
        Some((_, pause)) => rest(context, caller, subject, grant, failure, pause)?,
        None => drop(fail(context, caller, subject, grant, failure)?),
    }
    Err(ApiFailure::unavailable(message))
}

/// For a sign of life, which waits for nobody: what holds now. What lapses soon is asked for anew beside it, once at a time for a
/// revision, and a later sign of life has it.
pub(super) fn current(context: &Arc<Context>, caller: &Caller, subject: &Subject) -> Option<Authorization> {
    let current = context.ledger().opened.current(&subject.revision.name_any(), Instant::now());
    if current.renew {
        let (context, caller, subject) = (context.clone(), caller.clone(), subject.clone());
        tokio::spawn(async move { renew(&context, &caller, &subject).await });
    }
    current.authorization
}

async fn renew(context: &Context, caller: &Caller, subject: &Subject) {
    let name = subject.revision.name_any();
    match ask(context, caller, subject).await {
        Ok(opened) => drop(keep(context, subject, opened)),
        Err(error) => {
            tracing::info!(revision = %name, %error, "what opens the origin cannot be renewed yet");
            if context.ledger().grants.is_read(&name) {
                took_failure(context, &name, &error);
            }
        }
    }
}

fn took_failure(context: &Context, revision: &str, error: &ResolveError) -> Failure {
    let failure = error.failure();
    let (after, jitter) = (error.retry_after(), rand::random());
    context.ledger().opened.fail(revision, failure.clone(), after, jitter, Instant::now());
    failure
}

async fn ask(context: &Context, caller: &Caller, subject: &Subject) -> Result<Option<Opened>, ResolveError> {
    let Some(image) = &subject.revision.spec.content.image else { return Ok(None) };
    let class = context.index().classes.named(&caller.class).cloned();
    let missing = || ResolveError::refused("InvalidClass", "the class is not there; it is asked again");
    let class = class.ok_or_else(missing)?;
    let asked = distribution::open(context, &class, &subject.distribution, image);
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(ResolveError::refused(
            operator_api::reason::ORIGIN_UNAVAILABLE,
            "the registry, or its token server, did not answer within 10 s",
        ))
    })
}

/// Also for later signs of life, unless all reading has ended meanwhile: then it is of no use to anybody.
fn keep(context: &Context, subject: &Subject, opened: Option<Opened>) -> Option<Authorization> {
    let authorization = opened.as_ref().map(|opened| opened.authorization.clone());
    let (name, mut ledger) = (subject.revision.name_any(), context.ledger());
    if ledger.grants.is_read(&name) {
        ledger.opened.keep(&name, opened);
    }
    authorization
}
