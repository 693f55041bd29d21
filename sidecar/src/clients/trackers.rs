//! The stores of the class's trackers: metainfo and manifests.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use tracker_api::{MANIFESTS_PATH, METAINFO_PATH};

use super::Session;
use super::body::{capped, causes};

/// The largest metainfo or manifest that is read, in bytes.
const MAX_DOCUMENT: u64 = 128 << 20;
/// For a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two reads.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// A tracker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// The class has none, or nothing is known of them yet.
    #[error("no tracker is known")]
    None,
    /// It has no such document.
    #[error("{0} does not have it")]
    Missing(String),
    /// It answered something else.
    #[error("{tracker} answered {status}")]
    Refused {
        /// Its URL.
        tracker: String,
        /// The status code.
        status: u16,
    },
    /// It did not answer.
    #[error("{tracker} does not answer: {why}")]
    Unreachable {
        /// Its URL.
        tracker: String,
        /// Why.
        why: String,
    },
}

/// A client for the stores of trackers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trackers {
    http: reqwest::Client,
    session: Session,
}

impl Trackers {
    /// With the token of this session.
    pub fn new(session: Session) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(super::tls::config(rustls::RootCertStore::empty()))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()?;
        Ok(Self { http, session })
    }

    /// Metainfo by hex infohash, from the first tracker that has it.
    pub async fn metainfo(&self, trackers: &[String], infohash: &str) -> Result<Bytes, TrackerError> {
        self.first(trackers, &format!("{METAINFO_PATH}{infohash}")).await
    }

    /// A manifest by its digest, from the first tracker that has it.
    pub async fn manifest(&self, trackers: &[String], digest: &str) -> Result<Bytes, TrackerError> {
        self.first(trackers, &format!("{MANIFESTS_PATH}{digest}")).await
    }

    /// Whether a tracker has both documents. Revisions of the same bytes share their metainfo, but each has a manifest of its own.
    pub async fn has_both(&self, tracker: &str, infohash: &str, digest: &str) -> Result<bool, TrackerError> {
        for path in [format!("{MANIFESTS_PATH}{digest}"), format!("{METAINFO_PATH}{infohash}")] {
            match self.send(Method::HEAD, tracker, &path, None).await {
                Ok(_) => {}
                Err(TrackerError::Missing(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Stores manifest and metainfo of a revision at one tracker.
    pub async fn store(
        &self,
        tracker: &str,
        revision: &str,
        (infohash, metainfo): (&str, Bytes),
        (digest, manifest): (&str, Bytes),
    ) -> Result<(), TrackerError> {
        let path = format!("{MANIFESTS_PATH}{digest}?revision={revision}");
        self.send(Method::PUT, tracker, &path, Some(manifest)).await?;
        let path = format!("{METAINFO_PATH}{infohash}?revision={revision}");
        self.send(Method::PUT, tracker, &path, Some(metainfo)).await?;
        Ok(())
    }

    /// Stores them at all trackers; those that did not take them come back.
    pub async fn store_at_all(
        &self,
        trackers: &[String],
        revision: &str,
        (infohash, metainfo): (&str, Bytes),
        (digest, manifest): (&str, Bytes),
    ) -> Vec<(String, TrackerError)> {
        let stores = trackers.iter().map(|tracker| {
            let (metainfo, manifest) = ((infohash, metainfo.clone()), (digest, manifest.clone()));
            async move {
                self.store(tracker, revision, metainfo, manifest).await.map_err(|e| (tracker.clone(), e))
            }
        });
        join_all(stores).await.into_iter().filter_map(Result::err).collect()
    }

    /// Stores a revision's outline at those trackers that have it not; the errors of those that did not take it come back.
    pub async fn keep_outline(
        &self,
        trackers: &[String],
        revision: &str,
        id: &str,
        outline: &Bytes,
    ) -> Vec<TrackerError> {
        let keeps = trackers.iter().map(|tracker| async move {
            match self.send(Method::HEAD, tracker, &format!("{MANIFESTS_PATH}{id}"), None).await {
                Err(TrackerError::Missing(_)) => {
                    let path = format!("{MANIFESTS_PATH}{id}?revision={revision}");
                    self.send(Method::PUT, tracker, &path, Some(outline.clone())).await
                }
                other => other,
            }
        });
        join_all(keeps).await.into_iter().filter_map(Result::err).collect()
    }

    async fn first(&self, trackers: &[String], path: &str) -> Result<Bytes, TrackerError> {
        let mut last = TrackerError::None;
        for tracker in trackers {
            match self.send(Method::GET, tracker, path, None).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn send(
        &self,
        method: Method,
        tracker: &str,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Bytes, TrackerError> {
        let mut request = self.http.request(method, format!("{}{path}", tracker.trim_end_matches('/')));
        if let Some(token) = self.session.token() {
            request = request.bearer_auth(&*token.0);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let unreachable = |why| TrackerError::Unreachable { tracker: tracker.to_owned(), why };
        let response = request.send().await.map_err(|error| unreachable(causes(error)))?;
        match response.status() {
            status if status.is_success() => {
                capped(response, MAX_DOCUMENT).await.map_err(|error| unreachable(error.to_string()))
            }
            StatusCode::NOT_FOUND => Err(TrackerError::Missing(tracker.to_owned())),
            status => {
                if status == StatusCode::UNAUTHORIZED {
                    self.session.refused();
                }
                Err(TrackerError::Refused { tracker: tracker.to_owned(), status: status.as_u16() })
            }
        }
    }
}
