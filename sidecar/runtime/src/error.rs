//! What can go wrong between us and the container runtime.

use std::path::PathBuf;
use std::time::Duration;

use tonic::Code;

/// The longest text of a runtime's that is passed on, in characters.
const MAX_MESSAGE: usize = 1024;

/// A failed call, or none at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket there.
    #[error(
        "{socket}: no such socket; is the container runtime running, and is its folder {folder} mounted from the host?",
        socket = socket.display(), folder = folder(socket)
    )]
    Missing {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// Something there that does not answer. The connection is tried again with the next call.
    #[error("{}: the container runtime cannot be reached: {why}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It has taken too long.
    #[error("the container runtime has not answered {method} within {limit:?}")]
    Timeout {
        /// The call.
        method: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It has refused.
    #[error("the container runtime refuses {method} ({code:?}): {message}")]
    Refused {
        /// The call.
        method: &'static str,
        /// gRPC's kind of error.
        code: Code,
        /// Its words, without queries of URLs.
        message: String,
    },
    /// The image that was pulled is not the one that was meant.
    #[error("{reference} is {found} at the runtime, not {wanted}: the tag has moved")]
    OtherDigest {
        /// What was pulled.
        reference: String,
        /// The digest that was wanted.
        wanted: String,
        /// What it has instead.
        found: String,
    },
    /// A name that the runtime takes for no lease.
    #[error("{0:?} cannot name a lease: letters and digits with single `.`, `_` or `-` between them, at most {max} in all", max = crate::leases::MAX_REVISION)]
    LeaseName(String),
}

impl Error {
    /// Whether the runtime says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }

    pub(crate) fn refused(method: &'static str, status: &tonic::Status) -> Self {
        Self::Refused { method, code: status.code(), message: without_queries(status.message()) }
    }
}

fn folder(socket: &std::path::Path) -> String {
    socket.parent().map_or_else(String::new, |folder| folder.display().to_string())
}

/// A runtime quotes the URL that failed, and the query of a redirected one may be a signature (T104).
fn without_queries(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('?') {
        let (before, query) = rest.split_at(start);
        kept.push_str(before);
        let end =
            query.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(query.len());
        kept.push_str(if end > 1 { "?..." } else { "?" });
        rest = &query[end..];
    }
    kept.push_str(rest);
    kept.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t104_queries_of_urls_are_taken_out_of_what_a_runtime_says() {
        let text = r#"failed: Get "https://a.example/b?X-Signature=secret&x=1": EOF; why?"#;
        assert_eq!(without_queries(text), r#"failed: Get "https://a.example/b?...": EOF; why?"#);
        assert_eq!(without_queries(&"a".repeat(5000)).len(), MAX_MESSAGE);
    }

    #[test]
    fn t101_a_missing_socket_says_what_to_mount() {
        let error = Error::Missing { socket: "/run/containerd/containerd.sock".into() };
        assert!(error.to_string().contains("its folder /run/containerd mounted"), "{error}");
    }
}
