//! What the operator says of a blob.

use std::time::Duration;

use mirror::{Digest, Repository};
use operator_api::{DemandFailed, DemandGrant, DemandRequest, Demanded};
use tokio::time::Instant;
use torrent::ingest::{Outline, OutlineError, PublicKey};

use crate::clients::{OperatorClient, OperatorError};
use crate::fetch::FetchError;
use crate::jobs::Context;

/// The answer to a question takes at most so long: a container runtime waits for it.
const PATIENCE: Duration = Duration::from_millis(4500);
/// Pause before an operator that is not there, or not ready, is asked once more.
const PAUSE: Duration = Duration::from_millis(500);
/// What is the registry's to give is not asked for again for so long.
const FIRM: Duration = Duration::from_mins(1);
/// Nor is what nobody could say anything about.
const UNKNOWN: Duration = Duration::from_secs(5);

/// A blob that is shared.
#[derive(Debug)]
pub struct Claim {
    /// Where somebody asked for it.
    pub repository: Repository,
    /// Which.
    pub digest: Digest,
    /// What it goes by.
    pub outline: Outline,
    /// This node reads it.
    pub read: Option<DemandGrant>,
}

/// It is not shared, and nobody is asked again before this.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub Duration);

/// Asks the operator, until it says something or a runtime has waited long enough.
pub async fn claim(context: &Context, repository: Repository, digest: Digest) -> Result<Claim, Refused> {
    let began = Instant::now();
    loop {
        let error = match ask(context, &repository, &digest, false).await {
            Ok(demanded) => {
                return made(context, repository, digest, demanded).map_err(|error| {
                    tracing::warn!(blob = %digest, %error, "the operator names a blob that cannot be");
                    Refused(FIRM)
                });
            }
            Err(error) => error,
        };
        tracing::debug!(blob = %digest, %repository, %error, "not on demand");
        if error.is_lost() {
            return Err(Refused(FIRM));
        }
        if began.elapsed() + PAUSE > PATIENCE {
            return Err(Refused(UNKNOWN));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks once.
pub async fn ask(
    context: &Context,
    repository: &Repository,
    digest: &Digest,
    stuck: bool,
) -> Result<Demanded, OperatorError> {
    let request = DemandRequest {
        registry: repository.host().to_owned(),
        repository: repository.path().to_owned(),
        digest: digest.to_string(),
        key: context.fetcher_key.public().to_string(),
        stuck,
    };
    let operator = operator(context)?;
    within(operator.demand(&request)).await
}

/// Tells the operator what is wrong with a blob; that it does not hear of it is no harm.
pub async fn tell_failed(context: &Context, claim: &Claim, error: &FetchError) {
    tell_ended(context, claim, error.reason(), error.to_string()).await;
}

/// Tells the operator why this node has nothing to do with a blob any more: if it was the one that reads, another is.
pub async fn tell_ended(context: &Context, claim: &Claim, reason: &str, message: String) {
    tracing::warn!(blob = %claim.digest, repository = %claim.repository, message, "a blob on demand failed");
    let failed = DemandFailed {
        digest: claim.digest.to_string(),
        ingest: claim.outline.id().to_string(),
        reason: reason.to_owned(),
        message,
    };
    let told = match operator(context) {
        Ok(operator) => within(operator.demand_failed(&failed)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tracing::info!(blob = %claim.digest, %error, "the operator does not hear of it");
    }
}

/// The operator that the class names now.
pub fn operator(context: &Context) -> Result<OperatorClient, OperatorError> {
    context.operator.client(context.class().operator.as_ref(), &context.token)
}

/// A request that must not take long.
pub async fn within<T>(asked: impl Future<Output = Result<T, OperatorError>>) -> Result<T, OperatorError> {
    let silent = |_| Err(OperatorError::Unreachable("not in time".to_owned()));
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(silent)
}

/// The operator's word, held against what this node makes of it.
fn made(
    context: &Context,
    repository: Repository,
    digest: Digest,
    demanded: Demanded,
) -> Result<Claim, OutlineError> {
    let Demanded { ingest, epoch, key, size, read } = demanded;
    let key = PublicKey::parse(&key).ok_or(OutlineError::Field("key"))?;
    let outline = Outline::of_blob(&context.class_name, *digest.as_bytes(), size, epoch, key)?;
    if outline.id().to_string() != ingest {
        return Err(OutlineError::Field("id"));
    }
    Ok(Claim { repository, digest, outline, read })
}
