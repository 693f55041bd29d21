//! Whether a registry gives a manifest to whoever shows a token: asked for somebody else, with nothing but what they show.

use std::sync::Arc;

use operator_api::{Authorization, OriginPolicy};
use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use url::Url;

use super::client::{accepting, base, is_token};
use super::document::ACCEPTED;
use super::{Digest, Reference, RegistryError, challenge, realm};
use crate::access::Access;
use crate::client::{Answer, Options, Origin, status_error};
use crate::guard::{HostRules, PolicyError};
use crate::probe::header;

/// What a registry says to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gives them the manifest.
    Given,
    /// It wants a Bearer token: its `WWW-Authenticate`, as it stands, after a look at where it sends them.
    Challenge(String),
    /// Neither. It does not take the token, has no such manifest, or asks for something that is nobody's to pass on.
    Refused,
}

/// Asks registries what they would say to others. It has no credentials of its own, asks no token servers, and keeps nothing.
#[derive(Debug)]
pub struct Porter {
    pub(super) origin: Origin,
    plain_http: HostRules,
    /// Hosts that may be token servers of others.
    allowed: HostRules,
}

impl Porter {
    /// By the rules of a class. `plain_http` are registries that are spoken to without TLS, besides those on loopback.
    pub fn new(policy: &OriginPolicy, plain_http: HostRules, client: Options) -> Result<Self, PolicyError> {
        let allowed = HostRules::new(&policy.allow)?;
        Ok(Self { origin: Origin::new(policy, client)?, plain_http, allowed })
    }

    /// What the registry of `image` says to whoever asks for this manifest and shows this Bearer token, or nothing: one HEAD. An error is no
    /// word of the registry's on that.
    pub async fn ask(
        &self,
        image: &Reference,
        digest: &Digest,
        token: Option<&str>,
    ) -> Result<Verdict, RegistryError> {
        if token.is_some_and(|token| !is_token(token)) {
            return Ok(Verdict::Refused);
        }
        let base = base(image, &self.plain_http).map_err(|_| RegistryError::Document {
            image: image.to_string(),
            what: "the name".to_owned(),
            why: "it is no host that is ever asked".to_owned(),
        })?;
        let shown = token.map(|token| Authorization {
            origin: base.origin().ascii_serialization(),
            value: format!("Bearer {token}"),
        });
        let origin = self.origin.showing(Arc::new(Access::new(shown.as_ref())));
        let url = format!("{base}manifests/{digest}");
        let answer = origin.send(Method::HEAD, &url, accepting(HeaderMap::new())).await?;
        if answer.url.origin() != base.origin() {
            // Who is sent elsewhere is told there: that is not this registry's word.
            return Ok(Verdict::Refused);
        }
        match answer.response.status() {
            StatusCode::OK if is_manifest(answer.response.headers(), digest) => Ok(Verdict::Given),
            StatusCode::UNAUTHORIZED if token.is_none() => self.challenge(image, &base, &answer).await,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(status_error(&answer).into())
            }
            _ => Ok(Verdict::Refused),
        }
    }

    /// Its challenge, if whoever gets it may follow it: what they will show there is a password.
    async fn challenge(
        &self,
        image: &Reference,
        base: &Url,
        answer: &Answer,
    ) -> Result<Verdict, RegistryError> {
        let values = answer.response.headers().get_all(WWW_AUTHENTICATE);
        let found = challenge::token_alone(values.iter().filter_map(|value| value.to_str().ok()));
        let Some((header, named)) = found else { return Ok(Verdict::Refused) };
        let url = realm::check(base, &named, true, &self.allowed).map_err(|why| RegistryError::Realm {
            image: image.to_string(),
            realm: crate::redact(&named),
            why,
        })?;
        self.origin.may_dial(&url).await?;
        Ok(Verdict::Challenge(header.to_owned()))
    }
}

/// Whether the answer is about this manifest: a page that is shown to everybody says 200 too.
fn is_manifest(headers: &HeaderMap, digest: &Digest) -> bool {
    match header(headers, "docker-content-digest") {
        Some(said) => said == digest.to_string(),
        None => header(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| ACCEPTED.contains(&kind)),
    }
}
