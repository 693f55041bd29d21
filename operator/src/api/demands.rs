//! Images on demand: nodes ask for blobs that no revision has.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use crds::DistributionClass;
use jiff::Timestamp;
use operator_api::{
    DemandFailed, DemandGrant, DemandRequest, Demanded, Held, HeldBlob, MAX_HELD, SMALLEST_DEMAND,
};
use origin::registry::{Digest, Opened, Reference};
use torrent::ingest::{PublicKey, SigningKey, Warrant};

use super::grants::reason;
use super::{Api, ApiFailure, Caller, warrant};
use crate::context::Context;
use crate::demands::{Asked, Name, Part, Refusal, Source, Step, Wanted};
use crate::distribution;
use crate::trackers::register;

/// A registry, and the trackers, may take so long; a container runtime waits for the answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// The registry gets so much of it...
const FOUND_WITHIN: Duration = Duration::from_secs(3);
/// ...and the trackers so much.
const REGISTERED_WITHIN: Duration = Duration::from_secs(1);
/// What opens a registry is renewed when it lapses within this.
const MARGIN: Duration = Duration::from_secs(30);

/// A request that makes sense, by a class that lists the registry.
struct Demand {
    class: Arc<DistributionClass>,
    asked: Asked,
    reference: Reference,
    digest: Digest,
    node_key: PublicKey,
    opener: SigningKey,
}

impl Demand {
    fn fits(&self, source: Source) -> Result<Source, Refusal> {
        if source.size < SMALLEST_DEMAND {
            return Err(Refusal::lasting("it has less than 1 MiB"));
        }
        if source.size > self.class.spec.runtime.cache_bytes() {
            return Err(Refusal::lasting("it is larger than runtime.cache of the class"));
        }
        Ok(source)
    }
}

pub(super) async fn demand(State(api): State<Api>, headers: HeaderMap, request: Body) -> Response {
    let result = async {
        let (caller, request) = api.said::<DemandRequest>(&headers, request).await?;
        let demand = Arc::new(read(&api.context, &caller, &request)?);
        let name = shared(&api.context, &demand).await?;
        answer(&api.context, &caller, &demand, name, request.stuck).await.map(Json)
    };
    let result = result.await;
    api.answer("demand", result)
}

pub(super) async fn held(State(api): State<Api>, headers: HeaderMap, request: Body) -> Response {
    let result = async {
        let (caller, held) = api.said::<Held>(&headers, request).await?;
        if held.blobs.len() > MAX_HELD {
            return Err(ApiFailure::bad_request(format!("more than {MAX_HELD} blobs")));
        }
        class_of(&api.context, &caller)?;
        let key = opener(&api.context)?.public();
        take_in(&api.context, &caller, &held.blobs, key)?;
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    api.answer("held", result)
}

pub(super) async fn failed(State(api): State<Api>, headers: HeaderMap, request: Body) -> Response {
    let result = async {
        let (caller, failed) = api.said::<DemandFailed>(&headers, request).await?;
        let (wanted, why) = (wanted(&caller, &digest(&failed.digest)?), reason(&failed.reason));
        let message: String = failed.message.chars().take(300).collect();
        tracing::warn!(blob = %failed.digest, node = %caller.node, reason = %why, %message, "a blob on demand failed");
        let gone =
            api.context.ledger().demands.fail(&wanted, &caller.node, &failed.ingest, &why, Timestamp::now());
        if gone {
            api.context.registry_changed.notify_one();
        }
        Ok(StatusCode::NO_CONTENT)
    };
    let result = result.await;
    api.answer("demand-failed", result)
}

/// The caller's class, if it shares anything on demand.
fn class_of(context: &Context, caller: &Caller) -> Result<Arc<DistributionClass>, ApiFailure> {
    let class = context.index().classes.named(&caller.class).cloned();
    let class = class.ok_or_else(|| ApiFailure::unavailable("the class is not there; ask again"))?;
    if class.spec.runtime.registries.is_empty() || class.spec.retire.is_some() {
        return Err(ApiFailure::forbidden("the class lists no registries in runtime.registries"));
    }
    Ok(class)
}

fn opener(context: &Context) -> Result<SigningKey, ApiFailure> {
    let key = context.serving.ingest_key();
    key.ok_or_else(|| ApiFailure::unavailable("this operator has no certificate yet; ask again"))
}

fn digest(text: &str) -> Result<Digest, ApiFailure> {
    Digest::parse(text).map_err(|why| ApiFailure::bad_request(format!("digest: {why}")))
}

fn wanted(caller: &Caller, digest: &Digest) -> Wanted {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digest.hex(), &mut bytes).expect("a digest has 64 hex digits");
    Wanted { class: caller.class.clone(), digest: bytes }
}

fn read(context: &Context, caller: &Caller, request: &DemandRequest) -> Result<Demand, ApiFailure> {
    let class = class_of(context, caller)?;
    if !class.spec.runtime.lists(&request.registry) {
        return Err(ApiFailure::forbidden("the class does not list this registry in runtime.registries"));
    }
    let node_key = warrant::parse(&request.key)?;
    let digest = digest(&request.digest)?;
    let name = format!("{}/{}", request.registry.to_ascii_lowercase(), request.repository);
    let reference = Reference::parse(&format!("{name}@{digest}"))
        .ok()
        // Completed it would be something else than what was looked up in the list.
        .filter(|reference| reference.name() == name)
        .ok_or_else(|| ApiFailure::bad_request("registry and repository are not the name of an image"))?;
    let asked = Asked { wanted: wanted(caller, &digest), name };
    Ok(Demand { class, asked, reference, digest, node_key, opener: opener(context)? })
}

/// Waits until the blob is known to be public, and the trackers know its name. One request asks for all.
async fn shared(context: &Arc<Context>, demand: &Arc<Demand>) -> Result<Name, ApiFailure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // From before the look: what ends right after it is heard of.
        let mut ended = pin!(context.demand_ended.notified());
        ended.as_mut().enable();
        let step = context.ledger().demands.step(&demand.asked, demand.opener.public(), Timestamp::now());
        match step {
            Step::Shared(name) => return Ok(name),
            Step::Refused(why) => return Err(ApiFailure::not_shared(why)),
            Step::Full => break,
            Step::Ask => {
                let asking = Asking { context: context.clone(), demand: demand.clone() };
                // Not by this request: its node may hang up, and others wait for the same.
                tokio::spawn(async move { asking.run().await });
            }
            Step::Wait => {}
        }
        if tokio::time::timeout_at(deadline.into(), ended).await.is_err() {
            break;
        }
    }
    Err(ApiFailure::unavailable(
        "it is not known yet whether the blob is public, or too many are asked for; ask again",
    ))
}

/// A question to a registry, until it is dropped: however it ends, others may ask then.
struct Asking {
    context: Arc<Context>,
    demand: Arc<Demand>,
}

impl Asking {
    async fn run(&self) {
        let (context, demand) = (&*self.context, &*self.demand);
        let found = look(context, demand).await.and_then(|source| demand.fits(source));
        let now = Timestamp::now();
        let is_new = {
            let mut ledger = context.ledger();
            match found {
                Ok(source) => ledger.demands.found(&demand.asked, source, demand.opener.public(), now),
                Err(refusal) => {
                    tracing::debug!(blob = %demand.digest, name = demand.asked.name, why = refusal.why, "not on demand");
                    ledger.demands.refuse(&demand.asked, refusal, now);
                    false
                }
            }
        };
        if is_new {
            // First the trackers, then the nodes, which announce at once. One that hangs hears of it later.
            tokio::time::timeout(REGISTERED_WITHIN, register(context, &demand.asked.wanted.class)).await.ok();
            context.registry_changed.notify_one();
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.context.ledger().demands.end(&self.demand.asked);
        self.context.demand_ended.notify_waiters();
    }
}

/// Asks a registry, as anybody may, how long a blob is.
async fn look(context: &Context, demand: &Demand) -> Result<Source, Refusal> {
    let asked = async {
        let _place = context.images.enter_at(demand.reference.api_host()).await;
        let registry = distribution::anonymous(context, &demand.class, &demand.reference)
            .map_err(|error| Refusal::lasting(error.to_string()))?;
        let (size, opened) = registry.look_at(&demand.digest).await.map_err(|error| {
            let retry_after = error.retry_after().and_then(|after| after.try_into().ok());
            if error.is_final() {
                Refusal::lasting(error.to_string())
            } else {
                Refusal::passing(error.to_string(), retry_after)
            }
        })?;
        Ok(Source { url: registry.blob_url(&demand.digest), size, opened })
    };
    let silent = || Err(Refusal::passing("the registry, or its token server, did not answer in time", None));
    tokio::time::timeout(FOUND_WITHIN, asked).await.unwrap_or_else(|_| silent())
}

async fn answer(
    context: &Context,
    caller: &Caller,
    demand: &Demand,
    name: Name,
    stuck: bool,
) -> Result<Demanded, ApiFailure> {
    let wanted = &demand.asked.wanted;
    let part = context.ledger().demands.part(wanted, &caller.node, stuck, Timestamp::now());
    let read = match part {
        Part::Gets => None,
        Part::Reads(source) => Some(grant(context, caller, demand, name, source).await?),
    };
    let Name { id, epoch, size, key } = name;
    Ok(Demanded { ingest: id.to_string(), epoch, key: key.to_string(), size, read })
}

async fn grant(
    context: &Context,
    caller: &Caller,
    demand: &Demand,
    name: Name,
    source: Source,
) -> Result<DemandGrant, ApiFailure> {
    let warrant = Warrant::new(&demand.opener, name.id, &caller.node, demand.node_key)
        .map_err(|_| ApiFailure::forbidden("the node's name is too long for a warrant"))?;
    let opened = current(context, demand, source.opened).await;
    Ok(DemandGrant {
        warrant: hex::encode(warrant.encode()),
        url: source.url,
        origin_policy: distribution::policy(&demand.class),
        authorization: opened.map(|opened| opened.authorization),
    })
}

/// What opens the registry, renewed if it lapses soon; the old one where that cannot be had.
async fn current(context: &Context, demand: &Demand, opened: Option<Opened>) -> Option<Opened> {
    let until = opened.as_ref().and_then(|opened| opened.until);
    if until.is_none_or(|until| until > Instant::now() + MARGIN) {
        return opened;
    }
    match look(context, demand).await {
        Ok(source) => {
            context.ledger().demands.reopened(&demand.asked.wanted, source.opened.clone());
            source.opened
        }
        Err(refusal) => {
            tracing::info!(blob = %demand.digest, why = refusal.why, "what opens the registry cannot be renewed yet");
            opened
        }
    }
}

fn take_in(context: &Context, caller: &Caller, blobs: &[HeldBlob], key: PublicKey) -> Result<(), ApiFailure> {
    let blobs = blobs.iter().map(|blob| Ok((wanted(caller, &digest(&blob.digest)?), blob.size, blob.epoch)));
    let blobs = blobs.collect::<Result<Vec<_>, ApiFailure>>()?;
    let (now, mut ledger, mut is_new) = (Timestamp::now(), context.ledger(), false);
    for (wanted, size, epoch) in &blobs {
        is_new |= ledger.demands.held(wanted, &caller.node, (*size, *epoch), key, now);
    }
    drop(ledger);
    if is_new {
        context.registry_changed.notify_one();
    }
    Ok(())
}
