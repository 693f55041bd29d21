//! Answers without a body of an image: the errors of the distribution specification.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use crate::route::Unroutable;

/// The specification's code of an error, and what it says to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

/// 404 of that code.
const fn unknown(code: &'static str, message: &'static str) -> Problem {
    Problem { status: StatusCode::NOT_FOUND, code, message }
}

pub(crate) const MANIFEST_UNKNOWN: Problem =
    unknown("MANIFEST_UNKNOWN", "this node has no such manifest, or does not give it out");
pub(crate) const BLOB_UNKNOWN: Problem = unknown("BLOB_UNKNOWN", "this node has no such blob");
/// Bytes that did not come in time; who asks for them gets them upstream.
pub(crate) const BLOB_STALLED: Problem =
    unknown("BLOB_UNKNOWN", "these bytes of the blob have not arrived on this node");
/// Of an image whose registry is to say who may have it.
pub(crate) const UNAUTHORIZED: Problem = Problem {
    status: StatusCode::UNAUTHORIZED,
    code: "UNAUTHORIZED",
    message: "the image's registry wants a token: get one where it says, and show it here",
};
pub(crate) const READ_ONLY: Problem = Problem {
    status: StatusCode::METHOD_NOT_ALLOWED,
    code: "UNSUPPORTED",
    message: "this registry is read-only: push to the registry of the image",
};
pub(crate) const BUSY: Problem = Problem {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "TOOMANYREQUESTS",
    message: "this node answers as many requests as it may",
};
pub(crate) const UNSATISFIABLE: Problem = Problem {
    status: StatusCode::RANGE_NOT_SATISFIABLE,
    code: "SIZE_INVALID",
    message: "the blob has no such bytes",
};

impl From<Unroutable> for Problem {
    fn from(why: Unroutable) -> Self {
        match why {
            Unroutable::Unsupported => {
                unknown("UNSUPPORTED", "this registry serves manifests and blobs only")
            }
            Unroutable::Name => unknown("NAME_INVALID", "no registry or repository can be called that"),
            Unroutable::NoRegistry => {
                unknown("NAME_UNKNOWN", "say which registry: ?ns=<host>, or /v2/<host>/<repository>/")
            }
            Unroutable::Reference => unknown("MANIFEST_UNKNOWN", "neither a tag nor a SHA-256 digest"),
            Unroutable::Digest => unknown("DIGEST_INVALID", "not a SHA-256 digest"),
        }
    }
}

impl Problem {
    /// As the specification wants it: `{"errors":[{"code","message"}]}`.
    pub(crate) fn response(self) -> Response<Body> {
        let text =
            serde_json::json!({ "errors": [{ "code": self.code, "message": self.message }] }).to_string();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
