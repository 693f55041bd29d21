//! A registry, asked about one image.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use operator_api::{Authorization, OriginPolicy};
use reqwest::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::budget::{Budget, MAX_BYTES};
use super::challenge::{self, Challenge};
use super::document::{ACCEPTED, MAX_DOCUMENT};
use super::{Digest, Login, Reference, RegistryError, realm};
use crate::access::Access;
use crate::client::{Answer, Options, Origin, status_error};
use crate::error::OriginError;
use crate::guard::{HostRules, PolicyError};
use crate::probe::header;
use crate::read::content_range;

/// The largest answer of a token server, in bytes.
const MAX_TOKEN: u64 = 64 << 10;
/// How long a token is good if its server does not say (Docker's token specification).
const TOKEN_LIFETIME: Duration = Duration::from_mins(1);
/// No token is taken for longer.
const LONGEST_LIFETIME: Duration = Duration::from_hours(1);

/// What a [`Registry`] is made with, besides the image.
#[derive(Debug)]
pub struct RegistryOptions {
    /// The class's rules.
    pub policy: OriginPolicy,
    /// Registries that are spoken to without TLS, besides those on loopback.
    pub plain_http: HostRules,
    /// What its pull secrets hold for the image; tried in this order.
    pub logins: Vec<Login>,
    /// For the HTTP client.
    pub client: Options,
}

/// What opens the repository for whoever is to read it, and for how long.
#[derive(Debug, Clone)]
pub struct Opened {
    /// To be shown to the registry.
    pub authorization: Authorization,
    /// Until when it is good; `None` for a password.
    pub until: Option<Instant>,
}

/// A registry, for one image.
#[derive(Debug)]
pub struct Registry {
    origin: Origin,
    access: Arc<Access>,
    base: Url,
    pub(super) image: Reference,
    logins: Vec<Login>,
    /// Hosts that may be shown a password as token servers.
    allowed: HostRules,
    opened: Mutex<Option<Opened>>,
    budget: Budget,
}

/// The answer of a token server.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Registry {
    /// For one image.
    pub fn new(image: Reference, options: RegistryOptions) -> Result<Self, PolicyError> {
        let RegistryOptions { policy, plain_http, logins, client } = options;
        let access = Arc::new(Access::default());
        let origin = Origin::new(&policy, Options { access: access.clone(), ..client })?;
        let base = base(&image, &plain_http)?;
        let allowed = HostRules::new(&policy.allow)?;
        let (opened, budget) = (Mutex::default(), Budget::default());
        Ok(Self { origin, access, base, image, logins, allowed, opened, budget })
    }

    /// The URL of a blob.
    pub fn blob_url(&self, digest: &Digest) -> String {
        format!("{}blobs/{digest}", self.base)
    }

    /// The URL of a manifest or an index.
    pub fn manifest_url(&self, digest: &Digest) -> String {
        format!("{}manifests/{digest}", self.base)
    }

    /// What opens the repository, asked for anew; `None` if it is open to everyone.
    pub async fn open(&self, digest: &Digest) -> Result<Option<Opened>, RegistryError> {
        let answer = self.send(Method::HEAD, &format!("manifests/{digest}")).await?;
        self.expect_ok(&answer)?;
        Ok(self.opened_now())
    }

    /// How long a blob is, and what opened the repository; `None` if it is open to everyone. Not a byte of it is read, but for one where a
    /// registry answers no HEAD, or sends it on to where only GET is signed for.
    pub async fn look_at(&self, digest: &Digest) -> Result<(u64, Option<Opened>), RegistryError> {
        let path = format!("blobs/{digest}");
        let head = self.send(Method::HEAD, &path).await?;
        let size = match (head.response.status(), said_length(head.response.headers())) {
            (StatusCode::OK, Some(size)) => Some(size),
            (StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS, _) => return Err(self.not_ok(&head)),
            _ => {
                let first = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
                let part = self.send_with(Method::GET, &path, first).await?;
                let headers = part.response.headers();
                match part.response.status() {
                    StatusCode::PARTIAL_CONTENT => header(headers, CONTENT_RANGE.as_str())
                        .and_then(content_range)
                        .and_then(|range| range.size),
                    StatusCode::OK => said_length(headers),
                    _ => return Err(self.not_ok(&part)),
                }
            }
        };
        let size = size.ok_or_else(|| self.refuse(&path, "the registry does not say how long it is"))?;
        Ok((size, self.opened_now()))
    }

    fn opened_now(&self) -> Option<Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the reference stands for now: one HEAD, where the registry answers that and says the digest. A digest in the reference is
    /// taken at its word, and nobody is asked.
    pub async fn digest(&self) -> Result<Digest, RegistryError> {
        if let Some(digest) = self.image.digest() {
            return Ok(digest.clone());
        }
        let path = format!("manifests/{}", self.image.tag().unwrap_or("latest"));
        let head = self.send(Method::HEAD, &path).await?;
        let answers =
            !matches!(head.response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED);
        if answers {
            self.expect_ok(&head)?;
        }
        let said = header(head.response.headers(), "docker-content-digest").map(Digest::parse);
        match said.filter(|_| answers) {
            Some(Ok(digest)) => Ok(digest),
            Some(Err(why)) => Err(self.refuse("the digest", why)),
            // Registries need not say it, nor know HEAD. What they give is then asked for again by what it is.
            None => Ok(Digest::of(&self.document(&path, MAX_DOCUMENT).await?.0)),
        }
    }

    /// A manifest or an index, held against its digest; with the type that the registry says.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<(Bytes, Option<String>), RegistryError> {
        let (bytes, said) = self.document(&format!("manifests/{digest}"), MAX_DOCUMENT).await?;
        self.check(&format!("manifest {digest}"), &bytes, digest)?;
        Ok((bytes, said))
    }

    /// A small blob, held against its digest.
    pub(super) async fn blob(&self, digest: &Digest, size: u64) -> Result<Bytes, RegistryError> {
        let (bytes, _) = self.document(&format!("blobs/{digest}"), size).await?;
        self.check(&format!("blob {digest}"), &bytes, digest)?;
        Ok(bytes)
    }

    fn check(&self, what: &str, bytes: &Bytes, digest: &Digest) -> Result<(), RegistryError> {
        let found = Digest::of(bytes);
        if found == *digest {
            return Ok(());
        }
        Err(self.refuse(what, &format!("the registry gave bytes of {found} for it")))
    }

    async fn document(&self, path: &str, cap: u64) -> Result<(Bytes, Option<String>), RegistryError> {
        let answer = self.send(Method::GET, path).await?;
        self.expect_ok(&answer)?;
        let said = header(answer.response.headers(), CONTENT_TYPE.as_str()).map(str::to_owned);
        let left = self.budget.left();
        match self.origin.collect(answer, cap.min(left)).await {
            Ok(bytes) => {
                self.budget.read(bytes.len());
                Ok((bytes, said))
            }
            Err(OriginError::TooLarge { .. }) if left < cap => {
                let why = format!("with all that was read for it, it has more than {} MiB", MAX_BYTES >> 20);
                Err(self.refuse(path, &why))
            }
            Err(OriginError::TooLarge { cap, .. }) => {
                Err(self.refuse(path, &format!("it has more than {cap} bytes")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks, and answers a challenge once: with each login until one is let in, without any if there is none.
    async fn send(&self, method: Method, path: &str) -> Result<Answer, RegistryError> {
        self.send_with(method, path, HeaderMap::new()).await
    }

    /// The same, with further headers.
    async fn send_with(&self, method: Method, path: &str, more: HeaderMap) -> Result<Answer, RegistryError> {
        let answer = self.ask(&method, path, &more).await?;
        if answer.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let values = answer.response.headers().get_all(WWW_AUTHENTICATE);
        let Some(challenge) = challenge::choose(values.iter().filter_map(|value| value.to_str().ok())) else {
            return Err(self.unauthorized("it asks for credentials of a kind that is not known here"));
        };
        let tries: Vec<Option<&Login>> =
            if self.logins.is_empty() { vec![None] } else { self.logins.iter().map(Some).collect() };
        for login in tries {
            let Some(opened) = self.answer(&challenge, login).await? else { continue };
            self.access.renew(&opened.authorization);
            *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
            let answer = self.ask(&method, path, &more).await?;
            if !matches!(answer.response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok(answer);
            }
        }
        Err(self.unauthorized(self.advice()))
    }

    async fn ask(&self, method: &Method, path: &str, more: &HeaderMap) -> Result<Answer, RegistryError> {
        self.budget.ask().map_err(|why| self.refuse(path, &why))?;
        let headers = accepting(more.clone());
        Ok(self.origin.send(method.clone(), &format!("{}{path}", self.base), headers).await?)
    }

    /// What answers a challenge; `None` if this login does not.
    async fn answer(
        &self,
        challenge: &Challenge,
        login: Option<&Login>,
    ) -> Result<Option<Opened>, RegistryError> {
        match (challenge, login) {
            (Challenge::Basic, Some(login)) => Ok(Some(self.opened_by(login.basic(), None))),
            (Challenge::Basic, None) => Ok(None),
            (Challenge::Bearer { realm, service }, login) => {
                self.token(realm, service.as_deref(), login).await
            }
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        login: Option<&Login>,
    ) -> Result<Option<Opened>, RegistryError> {
        let mut url = realm::check(&self.base, realm, login.is_some(), &self.allowed).map_err(|why| {
            RegistryError::Realm { image: self.image.to_string(), realm: crate::redact(realm), why }
        })?;
        let scope = format!("repository:{}:pull", self.image.repository());
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &scope);
        let password = login
            .map(|login| Authorization { origin: url.origin().ascii_serialization(), value: login.basic() });
        let origin = self.origin.showing(Arc::new(Access::new(password.as_ref())));
        self.budget.ask().map_err(|why| self.refuse("a token", &why))?;
        let answer = origin.send(Method::GET, url.as_str(), HeaderMap::new()).await?;
        match answer.response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
            _ => return Err(status_error(&answer).into()),
        }
        let bytes = origin.collect(answer, MAX_TOKEN).await?;
        self.budget.read(bytes.len());
        // The parser's own words might show the token.
        let granted: Granted =
            serde_json::from_slice(&bytes).map_err(|_| unusable(realm, "it is no JSON with a token"))?;
        let lifetime = granted.expires_in.map_or(TOKEN_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        let token = granted.token.or(granted.access_token).filter(|token| is_token(token));
        let token = token.ok_or_else(|| unusable(realm, "it has no token"))?;
        Ok(Some(self.opened_by(format!("Bearer {token}"), Some(Instant::now() + lifetime))))
    }

    fn opened_by(&self, value: String, until: Option<Instant>) -> Opened {
        let authorization = Authorization { origin: self.base.origin().ascii_serialization(), value };
        Opened { authorization, until }
    }

    fn expect_ok(&self, answer: &Answer) -> Result<(), RegistryError> {
        if answer.response.status() == StatusCode::OK { Ok(()) } else { Err(self.not_ok(answer)) }
    }

    fn not_ok(&self, answer: &Answer) -> RegistryError {
        match answer.response.status() {
            StatusCode::NOT_FOUND => {
                let what = if self.image.digest().is_some() {
                    "a digest that has gone, or never was there, takes an edit of source"
                } else {
                    "check its name and tag"
                };
                RegistryError::NotFound { image: self.image.to_string(), what }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorized(self.advice()),
            _ => status_error(answer).into(),
        }
    }

    fn advice(&self) -> &'static str {
        if self.logins.is_empty() {
            "it does not exist, or is private: check its name, or give pullSecrets with an entry for its registry"
        } else {
            "nothing in the pullSecrets opens it: check user, password and their rights"
        }
    }

    fn unauthorized(&self, why: &str) -> RegistryError {
        RegistryError::Unauthorized { image: self.image.to_string(), why: why.to_owned() }
    }

    /// The error for a document that is not acceptable.
    pub(super) fn refuse(&self, what: &str, why: &str) -> RegistryError {
        RegistryError::Document { image: self.image.to_string(), what: what.to_owned(), why: why.to_owned() }
    }
}

/// Where the API of the image's repository is.
pub(super) fn base(image: &Reference, plain_http: &HostRules) -> Result<Url, PolicyError> {
    let plain = image.is_loopback() || plain_http.has(image.host());
    let scheme = if plain { "http" } else { "https" };
    let base = format!("{scheme}://{}/v2/{}/", image.api_host(), image.repository());
    Url::parse(&base).map_err(|_| PolicyError { rule: image.registry().to_owned() })
}

/// With the kinds of documents that are read here.
pub(super) fn accepting(mut headers: HeaderMap) -> HeaderMap {
    for kind in ACCEPTED {
        headers.append(ACCEPT, HeaderValue::from_static(kind));
    }
    headers
}

fn said_length(headers: &HeaderMap) -> Option<u64> {
    header(headers, CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok())
}

/// The error for what a token server gives.
fn unusable(realm: &str, why: &str) -> RegistryError {
    OriginError::Answer { url: crate::redact(realm), why: why.to_owned() }.into()
}

/// What may stand behind `Bearer` (RFC 6750 section 2.1).
pub(super) fn is_token(token: &str) -> bool {
    const LONGEST: usize = 32 << 10;
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !token.is_empty() && token.len() <= LONGEST && token.bytes().all(fit)
}
