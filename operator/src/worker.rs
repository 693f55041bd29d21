//! Takes keys off the queue and has them looked at, several at a time.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::context::Context;
use crate::distribution::ApplyError;
use crate::metrics::count;
use crate::queue::Key;
use crate::{class, distribution};

/// So many keys are looked at together.
const AT_A_TIME: usize = 16;
/// One look takes at most so long; the API server may hang.
const TIMEOUT: Duration = Duration::from_secs(20);

type Looked = (Key, Result<Option<Timestamp>, ApplyError>);

/// Works until the end; looks that have begun are cut off then, as by a crash.
pub async fn run(context: Arc<Context>, end: CancellationToken) {
    let mut tasks: JoinSet<Looked> = JoinSet::new();
    let mut failures: BTreeMap<Key, u32> = BTreeMap::new();
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            Some(looked) = tasks.join_next() => match looked {
                Ok(looked) => settle(&context, &mut failures, looked),
                Err(error) => tracing::error!(%error, "a look broke off: this is a defect"),
            },
            key = context.queue.next(), if tasks.len() < AT_A_TIME => {
                tasks.spawn(look(context.clone(), key));
            }
        }
    }
    tasks.shutdown().await;
}

async fn look(context: Arc<Context>, key: Key) -> Looked {
    let looking = async {
        match &key {
            Key::Class(name) => class::reconcile(&context, name).await,
            Key::Distribution { namespace, name } => distribution::reconcile(&context, namespace, name).await,
        }
    };
    let result = guarded(looking).await;
    (key, result)
}

/// A look that hangs or panics ends too: else its key would stay taken, and nobody would look at it again.
async fn guarded(
    looking: impl Future<Output = Result<Option<Timestamp>, ApplyError>>,
) -> Result<Option<Timestamp>, ApplyError> {
    // What a look shares is behind mutexes that are taken for whole changes only.
    let looking = AssertUnwindSafe(looking).catch_unwind();
    match tokio::time::timeout(TIMEOUT, looking).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApplyError::Defect),
        Err(_) => Err(kube::Error::Service("the API server does not answer in time".into()).into()),
    }
}

fn settle(context: &Context, failures: &mut BTreeMap<Key, u32>, (key, result): Looked) {
    let kind = match key {
        Key::Class(_) => "class",
        Key::Distribution { .. } => "distribution",
    };
    context.queue.done(&key);
    match result {
        Ok(wake_at) => {
            failures.remove(&key);
            count(&context.metrics.reconciles, kind, "ok");
            if let Some(at) = wake_at {
                let pause = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
                context.queue.after(key, pause);
            }
        }
        Err(error) => {
            let failed = failures.entry(key.clone()).or_default();
            *failed += 1;
            if error.is_conflict() {
                tracing::debug!(%key, %error, "the view was old");
                count(&context.metrics.reconciles, kind, "conflict");
            } else {
                tracing::warn!(%key, %error, "not done; trying again");
                count(&context.metrics.reconciles, kind, "failed");
            }
            let pause = Duration::try_from(backoff::pause(*failed, rand::random())).unwrap_or_default();
            context.queue.after(key, pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_panics_or_hangs_is_a_failed_one() {
        let broken = guarded(async { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(ApplyError::Defect)), "{broken:?}");
        let hung = guarded(std::future::pending()).await;
        assert!(matches!(hung, Err(ApplyError::Api(_))), "{hung:?}");
        assert!(matches!(guarded(async { Ok(None) }).await, Ok(None)));
    }
}
