//! Bodies of answers, with a cap.

use bytes::{Bytes, BytesMut};
use reqwest::Response;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It has more bytes than it may.
    #[error("the answer has over {0} bytes")]
    TooLarge(u64),
    /// The connection broke.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// The whole body, if it has at most `cap` bytes.
pub async fn capped(mut response: Response, cap: u64) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    loop {
        let chunk =
            response.chunk().await.map_err(|error| BodyError::Broken(error.without_url().to_string()))?;
        let Some(chunk) = chunk else { return Ok(whole.freeze()) };
        if (whole.len() + chunk.len()) as u64 > cap {
            return Err(BodyError::TooLarge(cap));
        }
        whole.extend_from_slice(&chunk);
    }
}

/// What a request's error says, its causes included, without the URL.
pub fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
