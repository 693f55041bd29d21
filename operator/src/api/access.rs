//! What an origin has to be shown, as part of a grant: made when the grant is given, and anew before it lapses.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use operator_api::Authorization;
use origin::registry::Opened;

use super::grants::{Subject, fail};
use super::{ApiFailure, Caller};
use crate::context::Context;
use crate::distribution;
use crate::resolve::ResolveError;

/// A registry and its token server may take so long. A sign of life must be answered well before the grant lapses.
const PATIENCE: Duration = Duration::from_secs(10);
/// A token that is good for less than this is replaced: signs of life come every 5 s, and one may be lost.
const MARGIN: Duration = Duration::from_secs(30);

/// For a grant that was just opened. If it cannot be had the grant has failed, and the user hears why.
pub(super) async fn open(
    context: &Context,
    caller: &Caller,
    subject: &Subject,
    grant: &str,
) -> Result<Option<Authorization>, ApiFailure> {
    match ask(context, caller, subject).await {
        Ok(opened) => Ok(keep(context, subject, opened)),
        Err(error) => {
            let failure = error.failure();
            let message = failure.message.clone();
            fail(context, caller, subject, grant, failure)?;
            Err(ApiFailure::unavailable(message))
        }
    }
}

/// For a sign of life. If nothing new can be had what the fetcher has goes on until it lapses.
pub(super) async fn renew(context: &Context, caller: &Caller, subject: &Subject) -> Option<Authorization> {
    let known = context.ledger().opened.get(&subject.revision.name_any()).cloned()?;
    if known.until.is_none_or(|until| Instant::now() + MARGIN < until) {
        return Some(known.authorization);
    }
    match ask(context, caller, subject).await {
        Ok(opened) => keep(context, subject, opened),
        Err(error) => {
            tracing::info!(revision = %subject.revision.name_any(), %error, "what opens the origin cannot be renewed yet");
            None
        }
    }
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

fn keep(context: &Context, subject: &Subject, opened: Option<Opened>) -> Option<Authorization> {
    let opened = opened?;
    let authorization = opened.authorization.clone();
    context.ledger().opened.insert(subject.revision.name_any(), opened);
    Some(authorization)
}
