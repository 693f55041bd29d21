//! Requests to a sibling: plain HTTP/1.1, one connection each.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PROTOCOL;

/// A sibling that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the body of an answer may take.
const BODY_PATIENCE: Duration = Duration::from_mins(5);

/// Another tracker of the same class.
#[derive(Clone, Debug)]
pub(crate) struct Sibling {
    /// `host:port`.
    authority: String,
    /// What it is shown.
    credential: HeaderValue,
}

/// Why a sibling did not answer as wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("it cannot be reached")]
    Unreachable(#[from] std::io::Error),
    #[error("it does not speak HTTP as expected")]
    Http(#[from] hyper::Error),
    #[error("it does not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("it answers {0}; siblings need the same token and the same version")]
    Refused(StatusCode),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    #[error("its answer cannot be read, or is longer than it may be: {0}")]
    Body(String),
}

/// An address of a sibling that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the address of a tracker: write http://HOST:PORT")]
pub struct SiblingError(String);

impl Sibling {
    /// From `http://host:port`.
    pub fn new(url: &str, credential: HeaderValue) -> Result<Self, SiblingError> {
        let uri: Uri = url.parse().map_err(|_| SiblingError(url.to_owned()))?;
        match (uri.scheme_str(), uri.authority(), uri.path(), uri.query()) {
            (Some("http"), Some(authority), "/", None) if !authority.as_str().contains('@') => {
                let port = if authority.port().is_some() { "" } else { ":80" };
                Ok(Sibling { authority: format!("{authority}{port}"), credential })
            }
            _ => Err(SiblingError(url.to_owned())),
        }
    }

    /// How it is called in logs: its host and port.
    pub fn name(&self) -> &str {
        &self.authority
    }

    /// Begins the stream of what it hears.
    pub async fn subscribe(&self) -> Result<TokioIo<Upgraded>, RequestError> {
        let request = self
            .request(tracker_api::REPLICATION_PATH)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL)
            .body(Empty::new())?;
        let response = timeout(PATIENCE, self.send(request)).await??;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(RequestError::Refused(response.status()));
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    /// Reads what lies under a path: at most `limit` bytes.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Bytes, RequestError> {
        let request = self.request(path).header(CONNECTION, "close").body(Empty::new())?;
        let response = timeout(PATIENCE, self.send(request)).await??;
        if response.status() != StatusCode::OK {
            return Err(RequestError::Refused(response.status()));
        }
        let body = timeout(BODY_PATIENCE, Limited::new(response.into_body(), limit).collect()).await?;
        Ok(body.map_err(|error| RequestError::Body(error.to_string()))?.to_bytes())
    }

    fn request(&self, path: &str) -> http::request::Builder {
        Request::get(path).header(HOST, &self.authority).header(AUTHORIZATION, &self.credential)
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, RequestError> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer, or becomes the stream.
        tokio::spawn(connection.with_upgrades());
        Ok(sender.send_request(request).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_an_address() {
        let sibling = |url| Sibling::new(url, HeaderValue::from_static("x")).map(|sibling| sibling.authority);
        assert_eq!(sibling("http://tracker-1:6969").unwrap(), "tracker-1:6969");
        assert_eq!(sibling("http://[fd00::1]:6969/").unwrap(), "[fd00::1]:6969");
        assert_eq!(sibling("http://tracker").unwrap(), "tracker:80");
        for bad in ["", "tracker:6969", "https://tracker", "http://a@b:1", "http://a/announce", "http://a/?x"]
        {
            assert!(sibling(bad).unwrap_err().to_string().contains("http://HOST:PORT"), "{bad}");
        }
    }
}
