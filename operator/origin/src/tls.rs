//! TLS towards origins: the roots that browsers trust, verified, and nothing else.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// The public roots (Mozilla's list, compiled in: the image has no file system to find them in).
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// TLS 1.2 and 1.3 by ring.
pub(crate) fn config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
