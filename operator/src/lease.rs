//! Which of several operators acts: the holder of the Lease `samara-operator`. Only it writes anything else.
//!
//! As in client-go, another's lease has run out when its record has not changed for its duration by *our* clock; clocks of
//! different machines are never compared. The holder stops to act before others may think it gone.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::FIELD_MANAGER;

/// The name of the Lease.
pub const LEASE: &str = "samara-operator";
/// A holder that shows no sign for so long has lost it.
const DURATION: Duration = Duration::from_secs(15);
/// The holder itself stops after so long without a renewal that came through.
const HOLD: Duration = Duration::from_secs(10);
/// How often the holder renews, and others look.
const EVERY: Duration = Duration::from_secs(4);
/// One look or renewal takes at most so long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process holds the lease. It is asked before every write.
#[derive(Debug, Default)]
pub struct Leadership(Mutex<Option<Instant>>);

impl Leadership {
    /// Whether it holds it now.
    pub fn holds(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// What is to be done about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is ours, or free: write our name into it.
    Take,
    /// It is another's.
    Wait,
}

/// `unchanged` is for how long its record has been as it is.
fn decide(lease: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Step {
    let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).unwrap_or_default();
    let seconds = lease.and_then(|lease| lease.lease_duration_seconds).unwrap_or_default();
    let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    if holder.is_empty() || holder == me || unchanged >= duration { Step::Take } else { Step::Wait }
}

/// One process that wants the lease.
pub struct Elector<'a> {
    api: Api<Lease>,
    me: &'a str,
    leadership: &'a Leadership,
    /// The record as it was seen last, and since when.
    seen: (Option<LeaseSpec>, Instant),
}

impl<'a> Elector<'a> {
    /// A candidate called `me`.
    pub fn new(client: Client, namespace: &str, me: &'a str, leadership: &'a Leadership) -> Self {
        Self { api: Api::namespaced(client, namespace), me, leadership, seen: (None, Instant::now()) }
    }

    /// Runs `lead` whenever the lease is held; its token is cancelled when it is lost. Gives it back at the end.
    pub async fn run<F: Future<Output = ()>>(
        mut self,
        lead: impl Fn(CancellationToken) -> F,
        shutdown: &CancellationToken,
    ) {
        while !shutdown.is_cancelled() {
            let Ok(true) = self.attempt().await else {
                pause(shutdown).await;
                continue;
            };
            tracing::info!(me = self.me, "leading");
            let lost = shutdown.child_token();
            let leading = lead(lost.clone());
            let renewing = async {
                self.renew(&lost).await;
                lost.cancel();
            };
            futures::future::join(leading, renewing).await;
            if !shutdown.is_cancelled() {
                tracing::warn!(me = self.me, "the lease is lost");
            }
        }
        self.release().await;
    }

    /// Renews until that fails for too long, or the end.
    async fn renew(&mut self, lost: &CancellationToken) {
        loop {
            pause(lost).await;
            if lost.is_cancelled() {
                return;
            }
            match self.attempt().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if self.leadership.holds() => {
                    tracing::warn!(%error, "cannot renew the lease; trying again");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot renew the lease in time");
                    break;
                }
            }
        }
        self.leadership.set(None);
    }

    /// Whether the lease is ours now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let begun = Instant::now();
        let result = tokio::time::timeout(TIMEOUT, self.take()).await;
        let taken = result.unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into())));
        if let Ok(true) = taken {
            // Counted from before the request: the record may be as old as that.
            self.leadership.set(Some(begun + HOLD));
        }
        if let Err(error) = &taken {
            tracing::debug!(%error, "the lease cannot be had");
        }
        taken
    }

    async fn take(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(LEASE).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        if spec != self.seen.0 {
            self.seen = (spec.clone(), Instant::now());
        }
        if decide(spec.as_ref(), self.me, self.seen.1.elapsed()) == Step::Wait {
            return Ok(false);
        }
        let mine = self.record(spec.as_ref());
        let metadata = lease.map_or_else(
            || ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
            |lease| lease.metadata,
        );
        let written = Lease { metadata, spec: Some(mine) };
        let written = match written.metadata.resource_version {
            Some(_) => self.api.replace(LEASE, &params(), &written).await,
            None => self.api.create(&params(), &written).await,
        };
        match written {
            Ok(lease) => {
                self.seen = (lease.spec, Instant::now());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn record(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let kept = old.filter(|old| old.holder_identity.as_deref() == Some(self.me));
        let transitions = old.and_then(|old| old.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.me.to_owned()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: kept.and_then(|kept| kept.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if kept.is_some() || old.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            ..LeaseSpec::default()
        }
    }

    /// Lets the next one in at once.
    async fn release(&mut self) {
        if !self.leadership.holds() {
            return;
        }
        self.leadership.set(None);
        let free = async {
            let mut lease = self.api.get(LEASE).await?;
            let ours =
                lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.as_deref() == Some(self.me));
            if let Some(spec) = lease.spec.as_mut().filter(|_| ours) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(LEASE, &params(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match tokio::time::timeout(TIMEOUT, free).await {
            Ok(Ok(())) => tracing::info!("the lease is given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be given back; it runs out"),
            Err(_) => tracing::warn!("the lease could not be given back in time; it runs out"),
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

async fn pause(end: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(EVERY) => {}
        () = end.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_ours_or_has_stood_still() {
        let second = Duration::from_secs(1);
        assert_eq!(decide(None, "a", second), Step::Take);
        assert_eq!(decide(Some(&held_by("")), "a", second), Step::Take);
        assert_eq!(decide(Some(&held_by("a")), "a", second), Step::Take);
        assert_eq!(decide(Some(&held_by("b")), "a", second * 14), Step::Wait);
        assert_eq!(decide(Some(&held_by("b")), "a", second * 15), Step::Take);
    }

    #[test]
    fn the_holder_gives_up_before_others_may_take_it() {
        assert!(HOLD + Duration::from_secs(2) < DURATION);
        assert!(EVERY + TIMEOUT < HOLD);
    }
}
