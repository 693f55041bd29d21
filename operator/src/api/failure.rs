//! What the API answers when it does not do what it is asked.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use operator_api::ErrorBody;

use crate::grants::Refusal;

/// A status and a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct ApiFailure {
    /// As `operator-api` lists them.
    pub status: StatusCode,
    /// What failed and what to do; without secrets.
    pub message: String,
}

impl ApiFailure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    pub fn no_revision() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such revision")
    }

    /// 404: a blob that is its registry's to give.
    pub fn not_shared(why: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("the blob is not shared on demand: {}", why.into()))
    }

    /// 409.
    pub fn lost(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// For the metrics.
    pub fn outcome(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "unauthenticated",
            403 => "forbidden",
            404 => "not_found",
            409 => "lost",
            503 => "unavailable",
            _ => "bad_request",
        }
    }
}

impl From<Refusal> for ApiFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotElected | Refusal::NotWitness | Refusal::CannotShare => {
                Self::forbidden(refusal.to_string())
            }
            Refusal::Later(_) | Refusal::Anew => Self::unavailable(refusal.to_string()),
            Refusal::Lost => Self::lost(refusal.to_string()),
        }
    }
}

impl From<daemon::BodyError> for ApiFailure {
    fn from(error: daemon::BodyError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl IntoResponse for ApiFailure {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.message })).into_response()
    }
}
