//! One request, with its redirects followed by hand.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use operator_api::OriginPolicy;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    USER_AGENT,
};
use reqwest::{Method, Response, StatusCode, redirect};
use rustls::RootCertStore;
use url::Url;

use crate::access::Access;
use crate::error::OriginError;
use crate::guard::{Guard, PolicyError};
use crate::pace::Pace;
use crate::redact::redacted;
use crate::resolve::{DeniedAddress, Guarded, Lookup, System};
use crate::tls;

/// How many redirects are followed.
pub const MAX_REDIRECTS: usize = 5;
/// The longest pause that `Retry-After` can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// What every request says it comes from.
const AGENT: &str = concat!("samara/", env!("CARGO_PKG_VERSION"));

/// How long an origin may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// Between two reads of an answer, and for its head.
    pub idle: Duration,
    /// An answer that brings less than 64 KiB in so much waiting has stalled.
    pub slow: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(30), slow: Duration::from_mins(1) }
    }
}

/// What an [`Origin`] is made with, besides the class's policy.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Addresses that are denied like what is built in: those of the API server.
    pub denied: Vec<IpAddr>,
    /// What one origin is shown, if a URL names it; never what it redirects to.
    pub access: Arc<Access>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// How fast files are read.
    pub pace: Arc<Pace>,
}

/// A guarded HTTP client. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Origin {
    client: reqwest::Client,
    guard: Arc<Guard>,
    resolver: Guarded,
    access: Arc<Access>,
    pub(crate) timeouts: Timeouts,
    pub(crate) pace: Arc<Pace>,
}

/// An answer with the URL that gave it.
pub(crate) struct Answer {
    pub(crate) url: Url,
    pub(crate) response: Response,
}

impl Origin {
    /// A client for one class.
    pub fn new(policy: &OriginPolicy, options: Options) -> Result<Self, PolicyError> {
        Self::build(policy, options, Arc::new(System), tls::public_roots())
    }

    pub(crate) fn build(
        policy: &OriginPolicy,
        options: Options,
        lookup: Arc<dyn Lookup>,
        roots: RootCertStore,
    ) -> Result<Self, PolicyError> {
        let guard = Arc::new(Guard::new(policy, options.denied)?);
        let resolver = Guarded { guard: Arc::clone(&guard), lookup };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(roots))
            .dns_resolver(resolver.clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(options.timeouts.connect)
            .build()
            .expect("a client with its TLS configured needs nothing that could be missing");
        let Options { access, timeouts, pace, .. } = options;
        Ok(Self { client, guard, resolver, access, timeouts, pace })
    }

    /// The same client with something else to show. Shares its connections.
    #[must_use]
    pub fn showing(&self, access: Arc<Access>) -> Self {
        Self { access, ..self.clone() }
    }

    /// Sends the request and follows its redirects. The answer may have any status but a redirect's.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
    ) -> Result<Answer, OriginError> {
        let first = checked(url)?;
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.hop(&method, &first, &url, headers.clone()).await?;
            if !is_redirect(response.status()) {
                refuse_encoding(&url, &response)?;
                return Ok(Answer { url, response });
            }
            url = next_hop(&url, &response)?;
            tracing::debug!(from = redacted(&first), to = redacted(&url), "following a redirect");
        }
        let why = "more than 5 redirects: give the URL that they end at";
        Err(OriginError::Redirect { url: redacted(&first), target: redacted(&url), why })
    }

    /// Whether this would be dialled: for where somebody else is sent.
    pub(crate) async fn may_dial(&self, url: &Url) -> Result<(), OriginError> {
        self.check_host(url)?;
        let Some(name) = url.domain() else { return Ok(()) };
        let found = tokio::time::timeout(self.timeouts.connect, self.resolver.addresses(name)).await;
        let unreachable = |cause: String| OriginError::Unreachable { url: redacted(url), cause };
        match found {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(unreachable("it has no address".to_owned())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => match error.downcast::<DeniedAddress>() {
                Ok(denied) => {
                    Err(OriginError::Denied { url: redacted(url), host: denied.host, rule: denied.rule })
                }
                Err(error) => Err(unreachable(error.to_string())),
            },
            Err(_) => Err(unreachable("its name is not resolved in time".to_owned())),
        }
    }

    /// An error if the host of the URL shows already that it is not dialled.
    fn check_host(&self, url: &Url) -> Result<(), OriginError> {
        let denied = url.host().and_then(|host| Some((host.to_string(), self.guard.host_denial(&host)?)));
        match denied {
            Some((host, rule)) => Err(OriginError::Denied { url: redacted(url), host, rule }),
            None => Ok(()),
        }
    }

    async fn hop(
        &self,
        method: &Method,
        first: &Url,
        url: &Url,
        mut headers: HeaderMap,
    ) -> Result<Response, OriginError> {
        self.check_host(url)?;
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(value) = self.access.header(url).filter(|_| first.origin() == url.origin()) {
            headers.insert(AUTHORIZATION, value);
        }
        let request = self.client.request(method.clone(), url.clone()).headers(headers);
        match tokio::time::timeout(self.timeouts.idle, request.send()).await {
            Ok(sent) => sent.map_err(|error| unreachable(url, &error)),
            Err(_) => {
                Err(OriginError::Unreachable { url: redacted(url), cause: "no answer in time".to_owned() })
            }
        }
    }
}

/// The URL, if it is one that is ever read.
pub(crate) fn checked(text: &str) -> Result<Url, OriginError> {
    let refuse = |why| OriginError::Url { url: crate::redact(text), why };
    // The parser would drop tabs and newlines, and what was looked at would not be what is sent.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(refuse("it contains white space or control characters: percent-encode them"));
    }
    let url = Url::parse(text).map_err(|_| refuse("it is not a URL"))?;
    acceptable(&url).map_err(refuse)?;
    Ok(url)
}

fn acceptable(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only http and https are read");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password in a URL ends up in logs: leave it out");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    Ok(())
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn next_hop(url: &Url, response: &Response) -> Result<Url, OriginError> {
    let refuse =
        |target: &str, why| OriginError::Redirect { url: redacted(url), target: crate::redact(target), why };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location else { return Err(refuse("", "it has no readable Location")) };
    let Ok(next) = url.join(location) else { return Err(refuse(location, "it is not a URL")) };
    acceptable(&next).map_err(|why| refuse(next.as_str(), why))?;
    if url.scheme() == "https" && next.scheme() == "http" {
        return Err(refuse(next.as_str(), "it leads from https to http"));
    }
    Ok(next)
}

/// What was not asked for is not undone: the digest is over the bytes as they are.
fn refuse_encoding(url: &Url, response: &Response) -> Result<(), OriginError> {
    let mut codings = response.headers().get_all(CONTENT_ENCODING).iter();
    if let Some(value) = codings.find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let coding = String::from_utf8_lossy(value.as_bytes()).chars().take(32).collect::<String>();
        let why =
            format!("it is encoded ({coding}) although that was not asked for; switch it off at the server");
        return Err(OriginError::Answer { url: redacted(url), why });
    }
    Ok(())
}

/// The error for a status that is none of those the caller can use.
pub(crate) fn status_error(answer: &Answer) -> OriginError {
    let (url, status) = (redacted(&answer.url), answer.response.status().as_u16());
    match status {
        404 | 410 => OriginError::NotFound { url, status },
        401 | 403 | 407 => OriginError::Unauthorized { url, status },
        _ => OriginError::Status { url, status, retry_after: retry_after(answer.response.headers()) },
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(std::time::SystemTime::now()).ok()?,
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

/// What reqwest says, without its URL (that has a query); a denial of the resolver becomes ours again.
pub(crate) fn unreachable(url: &Url, error: &reqwest::Error) -> OriginError {
    let mut causes: Vec<String> = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(denied) = cause.downcast_ref::<DeniedAddress>() {
            return OriginError::Denied {
                url: redacted(url),
                host: denied.host.clone(),
                rule: denied.rule.clone(),
            };
        }
        causes.push(cause.to_string());
        source = cause.source();
    }
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    };
    // The innermost cause says most; those between repeat it.
    let cause = causes.pop().map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"));
    OriginError::Unreachable { url: redacted(url), cause }
}
