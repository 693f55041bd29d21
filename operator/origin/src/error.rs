//! What can go wrong at an origin, and the reason a condition gives for it.

use std::time::Duration;

use operator_api::reason;

/// An origin could not be read. Messages name the redacted URL and what to do; they carry no secret.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The URL is not one that is ever read: scheme, user name, control characters.
    #[error("{url} is refused: {why}")]
    Url {
        /// Redacted.
        url: String,
        /// What is wrong with it, and what to write instead.
        why: &'static str,
    },
    /// The address is not one that the class lets anyone dial.
    #[error("{url} is denied: {host} {rule}; an admin can change the class's origin.allow and origin.deny")]
    Denied {
        /// Redacted.
        url: String,
        /// The host, and the address where a name led to it.
        host: String,
        /// Which rule denied it.
        rule: String,
    },
    /// 404 or 410.
    #[error("{url} answered {status}: check the URL, or put the file there")]
    NotFound {
        /// Redacted.
        url: String,
        /// The status code.
        status: u16,
    },
    /// 401, 403 or 407.
    #[error(
        "{url} answered {status}: it asks for credentials; use a URL that needs none, or a signed one that still holds"
    )]
    Unauthorized {
        /// Redacted.
        url: String,
        /// The status code.
        status: u16,
    },
    /// Any other status that is not the one asked for.
    #[error("{url} answered {status}; it is asked again later")]
    Status {
        /// Redacted.
        url: String,
        /// The status code.
        status: u16,
        /// What `Retry-After` asks for, at most an hour (RFC 9110 section 10.2.3).
        retry_after: Option<Duration>,
    },
    /// No connection, no name, no valid certificate, or it broke in the middle.
    #[error("{url} cannot be read: {cause}; see that the server runs and that the nodes reach it")]
    Unreachable {
        /// Redacted.
        url: String,
        /// What the layers below say.
        cause: String,
    },
    /// Nothing, or next to nothing, came for too long.
    #[error(
        "{url} stalled: {bytes} bytes in {seconds} s of waiting; look at the server's load and at the network to it"
    )]
    Stalled {
        /// Redacted.
        url: String,
        /// What came.
        bytes: u64,
        /// In how many seconds.
        seconds: u64,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {target}, which is refused: {why}")]
    Redirect {
        /// Redacted.
        url: String,
        /// Redacted.
        target: String,
        /// Why not.
        why: &'static str,
    },
    /// It is not what was resolved any more.
    #[error(
        "{url} has changed since it was resolved: {what}; it is resolved again, leave the file alone until then"
    )]
    Changed {
        /// Redacted.
        url: String,
        /// Which validator differs, and how.
        what: String,
    },
    /// It gave more or fewer bytes than it had said.
    #[error("{url} gave {got} bytes and had said {expected}: check the server that offers it")]
    Length {
        /// Redacted.
        url: String,
        /// Bytes it had said.
        expected: u64,
        /// Bytes that came, or at least that many.
        got: u64,
    },
    /// The answer contradicts HTTP or what was asked for.
    #[error("{url} gave an answer that cannot be used: {why}; check the server, and proxies in front of it")]
    Answer {
        /// Redacted.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A document that has to fit into memory does not.
    #[error(
        "{url} is larger than the {cap} bytes that such a document may have: make several Distributions of it"
    )]
    TooLarge {
        /// Redacted.
        url: String,
        /// The limit in bytes.
        cap: u64,
    },
}

impl OriginError {
    /// The reason that conditions and failures give: one of [`operator_api::reason`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Url { .. } | Self::Denied { .. } | Self::Redirect { .. } => reason::ORIGIN_DENIED,
            Self::NotFound { .. } => reason::ORIGIN_NOT_FOUND,
            Self::Unauthorized { .. } => reason::ORIGIN_UNAUTHORIZED,
            Self::Status { .. } | Self::Unreachable { .. } | Self::Stalled { .. } | Self::Answer { .. } => {
                reason::ORIGIN_UNAVAILABLE
            }
            Self::Changed { .. } => reason::SOURCE_CHANGED,
            Self::Length { .. } => reason::ORIGIN_LENGTH_MISMATCH,
            Self::TooLarge { .. } => reason::INVALID_MANIFEST,
        }
    }

    /// How long the origin asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same request may well work in a moment (and a half-read file be continued): a broken connection, an
    /// overloaded server. Everything else needs someone to change something first.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}
