//! Reading a request's body without being held by it.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// What is reserved at once for a body whose length was said in advance; more is reserved as it arrives.
const FIRST_RESERVATION: usize = 1 << 20;

/// How long, and how large, a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes.
    pub max_bytes: usize,
    /// Longest pause between two parts of it.
    pub pause: Duration,
    /// From the first byte to the last.
    pub total: Duration,
}

impl BodyLimits {
    /// 10 s of pause, and one minute plus a second for each 256 KiB in all.
    pub const fn up_to(max_bytes: usize) -> Self {
        let total = Duration::from_secs(60 + (max_bytes as u64 >> 18));
        BodyLimits { max_bytes, pause: Duration::from_secs(10), total }
    }
}

/// Why a body was not read to its end. As a response: 413, 408 or 400.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is, or says that it will be, longer than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It paused or took too long.
    #[error("the body came too slowly")]
    TooSlow,
    /// The connection broke, or its framing is wrong.
    #[error("the body cannot be read: {0}")]
    Broken(#[source] axum::Error),
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let status = match self {
            BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        (status, format!("{self}\n")).into_response()
    }
}

/// Reads the whole of `body`. Memory grows with what arrives, never with what a header promises.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body(body: Body, limits: BodyLimits) -> Result<Bytes, BodyError> {
    timeout(limits.total, read(body, limits)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read(mut body: Body, limits: BodyLimits) -> Result<Bytes, BodyError> {
    let promised = usize::try_from(axum::body::HttpBody::size_hint(&body).lower()).unwrap_or(usize::MAX);
    if promised > limits.max_bytes {
        return Err(BodyError::TooLarge(limits.max_bytes));
    }
    let mut bytes = BytesMut::with_capacity(promised.min(FIRST_RESERVATION));
    while let Some(frame) = timeout(limits.pause, body.frame()).await.map_err(|_| BodyError::TooSlow)? {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        if bytes.len() + data.len() > limits.max_bytes {
            return Err(BodyError::TooLarge(limits.max_bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        let body = read_body(Body::from(vec![7; 100]), BodyLimits::up_to(100)).await.unwrap();
        assert_eq!(body, vec![7; 100]);
    }

    #[tokio::test]
    async fn one_byte_more_is_refused() {
        let error = read_body(Body::from(vec![7; 101]), BodyLimits::up_to(100)).await.unwrap_err();
        assert_eq!(error.into_response().status(), 413);
    }

    /// A body that sends a byte every so often, for ever.
    struct Drip(tokio::time::Interval);

    impl axum::body::HttpBody for Drip {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            self.0.poll_tick(context).map(|_| Some(Ok(http_body::Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn t052_slow_bodies_are_given_up() {
        for (every, after) in [(11, 10), (9, 60)] {
            let began = tokio::time::Instant::now();
            let drip = Drip(tokio::time::interval(Duration::from_secs(every)));
            let error = read_body(Body::new(drip), BodyLimits::up_to(1000)).await.unwrap_err();
            assert_eq!(error.into_response().status(), 408);
            assert_eq!(began.elapsed().as_secs(), after, "a byte every {every} s");
        }
    }
}
