//! TLS by ring, trusting exactly who is named.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// A client's configuration. Without roots it trusts nobody: right for those who only speak plain HTTP.
pub fn config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
