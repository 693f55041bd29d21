//! Asking one tracker.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Method, Response, StatusCode};
use tracker_api::{MANIFESTS_PATH, METAINFO_PATH, REGISTRY_PATH, RegistryStatus, SWARMS_PATH, SwarmReport};

/// A connection takes at most so long.
const CONNECT: Duration = Duration::from_secs(2);
/// A small request takes at most so long.
const SHORT: Duration = Duration::from_secs(5);
/// Metainfo, a manifest, or a registry takes at most so long.
const LONG: Duration = Duration::from_mins(1);
/// The largest metainfo or manifest.
pub const LARGEST: usize = 128 << 20;
/// The largest report of one swarm: 10,000 peers of 300 bytes, and room.
const LARGEST_REPORT: usize = 8 << 20;

/// Why a tracker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// No answer, or a broken one.
    #[error("the tracker {url} cannot be reached: {cause}")]
    Unreachable {
        /// Which.
        url: String,
        /// What the layers below say.
        cause: String,
    },
    /// Another status than expected.
    #[error("the tracker {url} answered {status} to {what}")]
    Status {
        /// Which.
        url: String,
        /// The path that was asked for.
        what: String,
        /// What it answered.
        status: StatusCode,
    },
    /// An answer that is too large or is not what it should be.
    #[error("the tracker {url} gave an answer to {what} that cannot be read: {cause}")]
    Answer {
        /// Which.
        url: String,
        /// The path that was asked for.
        what: String,
        /// What is wrong.
        cause: String,
    },
}

/// A client for all trackers; it uses no proxy and follows no redirect.
#[derive(Clone, Debug)]
pub struct TrackerClient(Client);

impl Default for TrackerClient {
    fn default() -> Self {
        Self::new()
    }
}

/// Trackers speak plain HTTP here: a configuration that trusts nobody, since the client wants one.
fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

impl TrackerClient {
    /// A client.
    pub fn new() -> Self {
        let client = Client::builder()
            .tls_backend_preconfigured(no_tls())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .build()
            .expect("a client without TLS needs nothing that could be missing");
        Self(client)
    }

    async fn send(
        &self,
        method: Method,
        at: &At<'_>,
        what: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<Response, TrackerError> {
        let mut request =
            self.0.request(method, format!("{}{what}", at.url)).bearer_auth(at.token).timeout(limit);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| unreachable(at.url, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(TrackerError::Status { url: at.url.to_owned(), what: what.to_owned(), status: response.status() })
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, at: &At<'_>, what: &str) -> Result<T, TrackerError> {
        let response = self.send(Method::GET, at, what, None, SHORT).await?;
        let body = read(at, what, response, LARGEST_REPORT).await?;
        serde_json::from_slice(&body).map_err(|error| at.unreadable(what, error.to_string()))
    }

    /// What registry the tracker holds.
    pub async fn registry_status(&self, at: &At<'_>) -> Result<RegistryStatus, TrackerError> {
        self.json(at, REGISTRY_PATH).await
    }

    /// Gives it another registry, as JSON.
    pub async fn put_registry(&self, at: &At<'_>, registry: Bytes) -> Result<(), TrackerError> {
        self.send(Method::PUT, at, REGISTRY_PATH, Some(registry), LONG).await.map(drop)
    }

    /// What it sees of one swarm; none if it does not know it.
    pub async fn swarm(&self, at: &At<'_>, infohash: &str) -> Result<Option<SwarmReport>, TrackerError> {
        let reports: Vec<SwarmReport> = self.json(at, &format!("{SWARMS_PATH}?infohash={infohash}")).await?;
        Ok(reports.into_iter().next())
    }

    /// Metainfo by infohash; none if it is not there.
    pub async fn metainfo(&self, at: &At<'_>, infohash: &str) -> Result<Option<Bytes>, TrackerError> {
        self.stored(at, &format!("{METAINFO_PATH}{infohash}")).await
    }

    /// A content manifest by its digest; none if it is not there.
    pub async fn manifest(&self, at: &At<'_>, digest: &str) -> Result<Option<Bytes>, TrackerError> {
        self.stored(at, &format!("{MANIFESTS_PATH}{digest}")).await
    }

    async fn stored(&self, at: &At<'_>, what: &str) -> Result<Option<Bytes>, TrackerError> {
        match self.send(Method::GET, at, what, None, LONG).await {
            Ok(response) => read(at, what, response, LARGEST).await.map(Some),
            Err(TrackerError::Status { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One tracker, and what it lets us in by.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// `http://address:port`.
    pub url: &'a str,
    /// The class's token.
    pub token: &'a str,
}

impl At<'_> {
    fn unreadable(&self, what: &str, cause: String) -> TrackerError {
        TrackerError::Answer { url: self.url.to_owned(), what: what.to_owned(), cause }
    }
}

async fn read(at: &At<'_>, what: &str, mut response: Response, limit: usize) -> Result<Bytes, TrackerError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(at.url, &error))? {
        if body.len() + chunk.len() > limit {
            return Err(at.unreadable(what, format!("it is larger than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn unreachable(url: &str, error: &reqwest::Error) -> TrackerError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    TrackerError::Unreachable { url: url.to_owned(), cause: cause.to_string() }
}
