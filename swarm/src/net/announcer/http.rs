//! Announces over HTTP.

use url::Url;

use super::AnnounceError;
use crate::announce::http::MAX_RESPONSE;
use crate::announce::{Announce, Answer, AnswerError};

/// A tracker behind HTTP.
pub struct HttpTracker {
    /// The announce URL.
    pub url: Url,
    /// Token for our own trackers.
    pub bearer: Option<String>,
}

impl HttpTracker {
    /// One announce.
    pub async fn announce(
        &self,
        http: &reqwest::Client,
        announce: &Announce<'_>,
    ) -> Result<Answer, AnnounceError> {
        let mut request = http.get(self.with_query(announce));
        if let Some(token) = &self.bearer {
            request = request.bearer_auth(token);
        }
        // `without_url`: the query would fill the log, and a foreign announce URL can hold a passkey.
        let http = |error: reqwest::Error| AnnounceError::Http(chain(&error.without_url()));
        let mut response = request.send().await.map_err(http)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > MAX_RESPONSE {
                return Err(AnnounceError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        match Answer::parse(&body) {
            Ok(answer) if response.status().is_success() => Ok(answer),
            // A refusal says more than the status that goes with it.
            Err(refused @ AnswerError::Refused(_)) => Err(refused.into()),
            _ if !response.status().is_success() => Err(AnnounceError::Status(response.status())),
            other => Ok(other?),
        }
    }

    fn with_query(&self, announce: &Announce<'_>) -> Url {
        let mut url = self.url.clone();
        let query = announce.query();
        let query = match url.query() {
            Some(given) if !given.is_empty() => format!("{given}&{query}"),
            _ => query,
        };
        url.set_query(Some(&query));
        url
    }
}

/// An error with its causes: reqwest says "error sending request" and keeps the reason to itself.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
