//! One `Distribution`: look, plan, do.

mod apply;
mod observe;
mod outline;
mod registry;
mod room;
mod source;

use std::sync::Arc;

use jiff::Timestamp;

pub use apply::{ApplyError, write_finalizer};
pub use registry::anonymous;
pub use registry::open;
pub use room::ImageRoom;
pub use source::policy;

use crate::context::Context;
use crate::plan::{Plan, plan};
use crate::queue::Key;

/// Looks at a `Distribution`, or at what was left of one, and does what is to be done. Says when to look again.
pub async fn reconcile(
    context: &Arc<Context>,
    namespace: &str,
    name: &str,
) -> Result<Option<Timestamp>, ApplyError> {
    let now = Timestamp::now();
    let observed = observe::observe(context, namespace, name, now);
    let plan = plan(&observed, now);
    remember(context, &observed, &plan, now);
    let wake_at = plan.wake_at;
    let key = Key::Distribution { namespace: namespace.to_owned(), name: name.to_owned() };
    apply::apply(context, &key, &observed, plan).await?;
    Ok(wake_at)
}

/// Keeps what the next look needs to know of this one.
fn remember(context: &Context, observed: &crate::plan::Observed, plan: &Plan, now: Timestamp) {
    let Some(uid) =
        observed.distribution.as_ref().and_then(|distribution| distribution.metadata.uid.as_ref())
    else {
        return;
    };
    let mut ledger = context.ledger();
    let Some(known) = ledger.distributions.get_mut(uid) else { return };
    match plan.have_bytes {
        Some(have) => known.rate.add(have, now),
        None => known.rate = crate::ledger::Rate::default(),
    }
    if plan.origin_done {
        known.drop_list();
    }
    known.copy_missing_since = plan.copy_missing.then(|| known.copy_missing_since.unwrap_or(now));
}
