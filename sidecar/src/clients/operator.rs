//! The operator's API, over TLS that only the operator's own certificates vouch for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::OperatorEndpoint;
use operator_api::{
    Completed, DEMANDS_PATH, DemandFailed, DemandRequest, Demanded, ErrorBody, Failed, GRANTS_PATH, Grant,
    GrantRequest, Held, Lease, Progress, Retry, SESSION_PATH, Session, Witnessed,
};
use reqwest::StatusCode;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use torrent::ingest::PublicKey;

use super::TokenSource;
use super::body::{capped, causes};

/// For the whole of a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A grant of 1,000,000 files fits.
const MAX_ANSWER: u64 = 512 << 20;

/// The operator did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The endpoint in the class's status is of no use.
    #[error("the operator's endpoint {url} cannot be used: {why}")]
    Endpoint {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no token to show.
    #[error(transparent)]
    Token(#[from] super::token::TokenError),
    /// No answer.
    #[error("the operator does not answer: {0}")]
    Unreachable(String),
    /// An answer that says no.
    #[error("the operator answered {status}: {message}")]
    Refused {
        /// The status code.
        status: u16,
        /// What it says.
        message: String,
    },
    /// An answer that is none.
    #[error("the operator's answer cannot be read: {0}")]
    Answer(String),
}

impl OperatorError {
    /// Whether the grant is not (or no longer) ours.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Refused { status: 403 | 404 | 409, .. })
    }
}

/// A client for one endpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    http: reqwest::Client,
    base: Arc<str>,
    token: TokenSource,
}

/// The client for the endpoint that was asked last. Who asks every few seconds keeps its connections.
#[derive(Debug, Default)]
pub struct OperatorLine(Mutex<Option<(OperatorEndpoint, OperatorClient)>>);

impl OperatorLine {
    /// For the endpoint that the class's status names now.
    pub fn client(
        &self,
        endpoint: Option<&OperatorEndpoint>,
        token: &TokenSource,
    ) -> Result<OperatorClient, OperatorError> {
        let none = || OperatorError::Unreachable("the class's status names no operator yet".to_owned());
        let endpoint = endpoint.ok_or_else(none)?;
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = line.as_ref().filter(|(known, _)| known == endpoint) {
            return Ok(client.clone());
        }
        let client = OperatorClient::new(endpoint, token.clone())?;
        *line = Some((endpoint.clone(), client.clone()));
        Ok(client)
    }
}

impl OperatorClient {
    /// For the endpoint that the class's status names.
    pub fn new(endpoint: &OperatorEndpoint, token: TokenSource) -> Result<Self, OperatorError> {
        let fail = |why: String| OperatorError::Endpoint { url: endpoint.url.clone(), why };
        let base = endpoint.url.trim_end_matches('/');
        if !base.starts_with("https://") {
            return Err(fail("it is not https".into()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(endpoint.ca_bundle.as_bytes()) {
            let certificate = certificate.map_err(|error| fail(format!("its CA is no PEM: {error}")))?;
            roots.add(certificate).map_err(|error| fail(format!("its CA is refused: {error}")))?;
        }
        if roots.is_empty() {
            return Err(fail("it has no CA".into()));
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(super::tls::config(roots))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| fail(error.to_string()))?;
        Ok(Self { http, base: base.into(), token })
    }

    /// The token for the trackers.
    pub async fn session(&self) -> Result<Session, OperatorError> {
        self.post(SESSION_PATH, None::<&()>).await
    }

    /// The right to read a revision's origin, and to vouch with this key for what is read.
    pub async fn grant(&self, revision: &str, key: PublicKey) -> Result<Grant, OperatorError> {
        let request = GrantRequest { key: Some(key.to_string()) };
        self.post(&format!("{GRANTS_PATH}{revision}"), Some(&request)).await
    }

    /// A sign of life.
    pub async fn progress(&self, revision: &str, progress: &Progress) -> Result<Lease, OperatorError> {
        self.post(&format!("{GRANTS_PATH}{revision}/progress"), Some(progress)).await
    }

    /// The content is whole and its metainfo stored.
    pub async fn complete(&self, revision: &str, completed: &Completed) -> Result<(), OperatorError> {
        self.send(&format!("{GRANTS_PATH}{revision}/complete"), Some(completed)).await.map(|_| ())
    }

    /// It did not work.
    pub async fn failed(&self, revision: &str, failed: &Failed) -> Result<Retry, OperatorError> {
        self.post(&format!("{GRANTS_PATH}{revision}/failed"), Some(failed)).await
    }

    /// The second word on what was read.
    pub async fn witness(&self, revision: &str, said: &Witnessed) -> Result<(), OperatorError> {
        self.send(&format!("{GRANTS_PATH}{revision}/witness"), Some(said)).await.map(|_| ())
    }

    /// A blob that somebody asks this node for.
    pub async fn demand(&self, request: &DemandRequest) -> Result<Demanded, OperatorError> {
        self.post(DEMANDS_PATH, Some(request)).await
    }

    /// The blobs that this node has whole.
    pub async fn held(&self, held: &Held) -> Result<(), OperatorError> {
        self.send(&format!("{DEMANDS_PATH}/held"), Some(held)).await.map(|_| ())
    }

    /// One of them could not be had.
    pub async fn demand_failed(&self, failed: &DemandFailed) -> Result<(), OperatorError> {
        self.send(&format!("{DEMANDS_PATH}/failed"), Some(failed)).await.map(|_| ())
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, OperatorError> {
        let bytes = self.send(path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| OperatorError::Answer(error.to_string()))
    }

    async fn send(&self, path: &str, body: Option<&impl Serialize>) -> Result<bytes::Bytes, OperatorError> {
        let token = self.token.read().await?;
        let mut request = self.http.post(format!("{}{path}", self.base)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| OperatorError::Unreachable(causes(error)))?;
        let status = response.status();
        let bytes = capped(response, MAX_ANSWER)
            .await
            .map_err(|error| OperatorError::Unreachable(error.to_string()))?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(OperatorError::Refused { status: status.as_u16(), message: message(status, &bytes) })
    }
}

fn message(status: StatusCode, body: &[u8]) -> String {
    const SHOWN: usize = 200;
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error.chars().take(SHOWN).collect(),
        Err(_) => status.canonical_reason().unwrap_or("no reason given").to_owned(),
    }
}
