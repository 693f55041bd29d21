//! Whom the engine trusts behind `https://`.

use std::sync::Arc;

/// TLS by ring for trackers and web seeds behind https, by the roots that browsers trust (compiled in: the image has no file system to find
/// them in).
pub fn public() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
