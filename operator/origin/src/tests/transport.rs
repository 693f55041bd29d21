use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use operator_api::reason;
use rustls::RootCertStore;
use tokio_rustls::TlsAcceptor;

use super::server::{Reply, Server};
use super::{loopback_allowed, origin, quick};
use crate::Origin;
use crate::resolve::System;

/// A certificate for `localhost` that its own root vouches for.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) roots: RootCertStore,
}

impl Tls {
    pub(super) fn new() -> Self {
        Self::from_params(&rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
    }

    fn expired() -> Self {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        Self::from_params(&params)
    }

    fn from_params(params: &rcgen::CertificateParams) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(server)), roots }
    }
}

#[tokio::test]
async fn t083_only_a_certificate_that_holds_is_accepted() {
    let good = Tls::new();
    let server = Server::start_with(|_| Reply::sized(200, &[], b"fine"), Some(good.acceptor.clone())).await;
    let with = |roots| Origin::build(&loopback_allowed(), quick(), Arc::new(System), roots).unwrap();
    let url = format!("https://localhost:{}/", server.address.port());
    assert_eq!(&with(good.roots.clone()).get_small(&url, 10).await.unwrap()[..], b"fine");

    // Of nobody we know, for another name, out of date.
    let unknown = origin().get_small(&url, 10).await.unwrap_err();
    let by_address = format!("https://127.0.0.1:{}/", server.address.port());
    let other_name = with(good.roots.clone()).get_small(&by_address, 10).await.unwrap_err();
    let old = Tls::expired();
    let server = Server::start_with(|_| Reply::sized(200, &[], b"old"), Some(old.acceptor.clone())).await;
    let url = format!("https://localhost:{}/", server.address.port());
    let expired = with(old.roots.clone()).get_small(&url, 10).await.unwrap_err();
    for error in [unknown, other_name, expired] {
        assert_eq!(error.reason(), reason::ORIGIN_UNAVAILABLE);
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[test]
fn t083_nothing_in_the_tree_can_switch_verification_off() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["cli", "crds", "daemon", "operator", "sidecar", "swarm", "torrent", "tracker"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the tree was found");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["accept_invalid", ".dangerous()", "with_custom_certificate_verifier"] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "tests" {
            sources(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}
