//! Who may have the manifests of a private image: their registry says it, for the token that the client shows.
//!
//! Nothing is dialled but registries of images that are here and want this, by the class's rules for origins. Tokens are the clients': they
//! are shown to that registry once, and kept as a hash that nobody else can make.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use crds::OriginRules;
use mirror::{Digest, Gate, Repository, Verdict};
use operator_api::OriginPolicy;
use origin::registry::{Porter, Reference, Verdict as Word};
use origin::{HostRules, Options, PolicyError, Timeouts};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::brief::Brief;
use crate::class::ClassInfo;

/// How long the registry's word counts. A token that it takes back meanwhile, or that ends, still opens manifests here.
const KNOWN: Duration = Duration::from_mins(1);
/// How long a registry that does not answer, or asks for something else than tokens, is not asked again what it asks for.
const SILENT: Duration = Duration::from_secs(10);
/// Tokens that were taken for a manifest, and manifests that were asked for without one, in memory.
const TOKENS: usize = 4096;
const MANIFESTS: usize = 1024;
/// Questions that are under way; the others wait, and go upstream when the mirror has no more patience.
const QUESTIONS: usize = 16;
/// A client waits for the answer, and can ask the registry by itself: after this it has not answered, whatever takes so long.
const PATIENCE: Duration = Duration::from_secs(3);
const TIMEOUTS: Timeouts = Timeouts { connect: PATIENCE, idle: PATIENCE, slow: PATIENCE };

/// A token, its repository and a manifest of that, as a hash under a key of this process.
type Mark = [u8; 32];

/// Asks registries in their clients' name, and remembers the answers for a moment.
#[derive(Debug)]
pub struct Relay {
    class: watch::Receiver<Option<Arc<ClassInfo>>>,
    /// Addresses that are denied besides what the class denies.
    denied: Vec<IpAddr>,
    key: [u8; 32],
    known: Mutex<Known>,
    turns: Semaphore,
}

/// What is known under these rules.
#[derive(Debug)]
struct Known {
    rules: OriginRules,
    /// None before the first question, and where the rules cannot be read.
    porter: Option<Arc<Porter>>,
    taken: Brief<Mark, ()>,
    asked: Brief<(Repository, Digest), Verdict>,
}

impl Known {
    fn new(rules: OriginRules, porter: Option<Arc<Porter>>) -> Self {
        Self { rules, porter, taken: Brief::new(TOKENS), asked: Brief::new(MANIFESTS) }
    }
}

impl Relay {
    /// By the class's rules, as they are at each question.
    pub fn new(class: watch::Receiver<Option<Arc<ClassInfo>>>, denied: Vec<IpAddr>) -> Self {
        let known = Mutex::new(Known::new(OriginRules::default(), None));
        Self { class, denied, key: rand::random(), known, turns: Semaphore::new(QUESTIONS) }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Unless other rules hold by now: what was said under the old ones is forgotten.
    fn known_by(&self, porter: &Arc<Porter>, put: impl FnOnce(&mut Known)) {
        self.known(|known| {
            if known.porter.as_ref().is_some_and(|now| Arc::ptr_eq(now, porter)) {
                put(known);
            }
        });
    }

    /// Who asks, by the rules of now. With other rules everything is asked anew.
    fn porter(&self) -> Option<Arc<Porter>> {
        let class = self.class.borrow().clone().filter(|class| !class.retired)?;
        self.known(|known| {
            if known.porter.is_none() || known.rules != class.origin {
                let porter = porter(&class.origin, self.denied.clone());
                let porter = porter.inspect_err(|error| {
                    tracing::warn!(%error, "private images are not relayed: correct the class's origin rules");
                });
                *known = Known::new(class.origin.clone(), porter.ok().map(Arc::new));
            }
            known.porter.clone()
        })
    }

    /// Each part with its length before it: no two questions have the same bytes.
    pub(super) fn mark(&self, (repository, digest): (&Repository, &Digest), token: &str) -> Mark {
        let mut hash = Sha256::new_with_prefix(self.key);
        for part in [repository.host(), repository.path(), &digest.to_string(), token] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// The registry's word; none if it does not answer. The caller holds a turn.
    async fn word(&self, porter: &Porter, of: (&Repository, &Digest), token: Option<&str>) -> Option<Word> {
        let (repository, digest) = of;
        let name = format!("{}/{}", repository.host(), repository.path());
        let digest = origin::registry::Digest::parse(&digest.to_string()).ok()?;
        // Completed it would be somebody else's: `harbor/team/app` is Docker Hub's.
        let is_it = |image: &Reference| image.name() == name;
        let image = Reference::parse(&name).ok().filter(is_it)?;
        let asked = tokio::time::timeout(PATIENCE, porter.ask(&image, &digest, token)).await.ok()?;
        let asked = asked.inspect_err(|error| match token {
            // Remembered for a moment, so said now and then.
            None => {
                tracing::warn!(image = name, %error, "container runtimes ask the image's registry by themselves");
            }
            Some(_) => {
                tracing::debug!(image = name, %error, "a token is not taken here, as its registry does not say");
            }
        });
        asked.ok()
    }

    /// What it says to who shows nothing; asked once for all for a while.
    async fn challenge(&self, porter: &Arc<Porter>, of: (&Repository, &Digest)) -> Verdict {
        let what = (of.0.clone(), *of.1);
        let heard = || self.known(|known| known.asked.get(&what, Instant::now()).cloned());
        if let Some(verdict) = heard() {
            return verdict;
        }
        let Ok(_turn) = self.turns.acquire().await else { return Verdict::Elsewhere };
        // Who was before this one may have asked the same.
        if let Some(verdict) = heard() {
            return verdict;
        }
        let (verdict, lasts) = match self.word(porter, of, None).await {
            Some(Word::Given) => (Verdict::Given, KNOWN),
            Some(Word::Challenge(challenge)) => (Verdict::Challenge(challenge), KNOWN),
            Some(Word::Refused) | None => (Verdict::Elsewhere, SILENT),
        };
        let now = Instant::now();
        self.known_by(porter, |known| known.asked.put(what, verdict.clone(), now + lasts, now));
        verdict
    }

    /// What it says to who shows this token. Only its yes is remembered.
    async fn entrance(&self, porter: &Arc<Porter>, of: (&Repository, &Digest), token: &str) -> Verdict {
        let mark = self.mark(of, token);
        let is_taken = || self.known(|known| known.taken.get(&mark, Instant::now()).is_some());
        if is_taken() {
            return Verdict::Given;
        }
        let Ok(_turn) = self.turns.acquire().await else { return Verdict::Elsewhere };
        if is_taken() {
            return Verdict::Given;
        }
        if self.word(porter, of, Some(token)).await != Some(Word::Given) {
            return Verdict::Elsewhere;
        }
        let now = Instant::now();
        self.known_by(porter, |known| known.taken.put(mark, (), now + KNOWN, now));
        Verdict::Given
    }
}

#[async_trait]
impl Gate for Relay {
    async fn ask(&self, repository: &Repository, digest: &Digest, token: Option<&str>) -> Verdict {
        let Some(porter) = self.porter() else { return Verdict::Elsewhere };
        match token {
            None => self.challenge(&porter, (repository, digest)).await,
            Some(token) => self.entrance(&porter, (repository, digest), token).await,
        }
    }
}

fn porter(rules: &OriginRules, denied: Vec<IpAddr>) -> Result<Porter, PolicyError> {
    let policy = OriginPolicy { allow: rules.allow.clone(), deny: rules.deny.clone() };
    let client = Options { denied, timeouts: TIMEOUTS, ..Options::default() };
    Porter::new(&policy, HostRules::new(&rules.plain_http)?, client)
}
