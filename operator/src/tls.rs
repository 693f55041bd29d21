//! The certificate of the operator's API: a CA of its own, kept in a Secret, whose certificate stands in every class's status. The
//! key with which the operator signs for fetchers is made of the same secret.

mod certificates;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use torrent::ingest::SigningKey;

pub use certificates::{Bundle, CertificateError};

use crate::context::{Context, FIELD_MANAGER};
use crate::queue::Urgency;

/// The Secret.
pub const SECRET: &str = "samara-operator-tls";
/// How often it is read again.
const EVERY: Duration = Duration::from_mins(1);
/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// What the API shows to those who connect, and signs with. It can be exchanged while it runs.
#[derive(Debug, Default)]
pub struct Serving(RwLock<Option<Shown>>);

/// A bundle, and what was read out of it.
#[derive(Debug)]
struct Shown {
    bundle: Bundle,
    certified: Arc<CertifiedKey>,
    ingest: SigningKey,
}

impl Serving {
    fn shown<T>(&self, read: impl FnOnce(&Shown) -> T) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
    }

    /// The certificates that vouch for the API; none until there are any.
    pub fn ca_bundle(&self) -> Option<String> {
        self.shown(|shown| shown.bundle.ca.clone())
    }

    /// What signs for the nodes that may read an origin; none until there is a CA. It never leaves this process.
    pub fn ingest_key(&self) -> Option<SigningKey> {
        self.shown(|shown| shown.ingest.clone())
    }

    /// Shows this from now on. Says whether it is another than before.
    fn set(&self, bundle: Bundle) -> Result<bool, CertificateError> {
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_some_and(|before| before.bundle == bundle) {
            return Ok(false);
        }
        let (certified, ingest) = (Arc::new(bundle.certified_key()?), bundle.ingest_key()?);
        *shown = Some(Shown { bundle, certified, ingest });
        Ok(true)
    }

    /// A TLS configuration that always shows what is set.
    pub fn server_config(self: &Arc<Self>) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown(|shown| shown.certified.clone())
    }
}

/// Why the Secret could not be read or written.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Reads the Secret again and again; the leader makes and renews it.
pub async fn keep(context: Arc<Context>, end: CancellationToken) {
    while !end.is_cancelled() {
        let pause = match round(&context).await {
            Ok(true) => EVERY,
            Ok(false) => RETRY,
            Err(error) => {
                tracing::warn!(%error, "the certificate of the API cannot be had; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = context.certificate_wanted.notified() => {}
        }
    }
}

/// Whether there is a certificate now.
async fn round(context: &Context) -> Result<bool, TlsError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let secret = api.get_opt(SECRET).await?;
    let stored = secret.as_ref().and_then(read);
    let now = Timestamp::now();
    let names = names(context);
    let renewed = Bundle::renewed(stored.as_ref(), &names, now)?;
    let bundle = match (renewed, stored) {
        (Some(renewed), _) if context.leadership.holds() => {
            write(&api, secret, &renewed).await?;
            tracing::info!(names = ?names, "certificate of the API written");
            renewed
        }
        (_, Some(stored)) => stored,
        (_, None) => return Ok(false),
    };
    if context.serving.set(bundle)? {
        // Classes tell whom to trust, and what is being read is named after the ingest key.
        let keys = context.index().all_keys();
        context.queue.touch(keys.into_iter().map(|key| (key, Urgency::Now)));
    }
    Ok(true)
}

/// The names under which the API is reached.
fn names(context: &Context) -> Vec<String> {
    let url = url::Url::parse(&context.settings.public_url).ok();
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    vec![host.trim_start_matches('[').trim_end_matches(']').to_owned()]
}

const FIELDS: [&str; 5] = ["ca.crt", "ca.key", "tls.crt", "tls.key", "made.json"];

fn read(secret: &Secret) -> Option<Bundle> {
    let data = secret.data.as_ref()?;
    let field = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    let [ca, ca_key, certificate, key, made] = FIELDS.map(field);
    let bundle = Bundle {
        ca: ca?,
        ca_key: ca_key?,
        certificate: certificate?,
        key: key?,
        made: serde_json::from_str(&made?).ok()?,
    };
    // One that cannot be used is as good as none.
    bundle.certified_key().ok()?;
    bundle.ingest_key().ok()?;
    Some(bundle)
}

async fn write(api: &Api<Secret>, old: Option<Secret>, bundle: &Bundle) -> Result<(), TlsError> {
    let made = serde_json::to_string(&bundle.made).unwrap_or_default();
    let values = [&bundle.ca, &bundle.ca_key, &bundle.certificate, &bundle.key, &made];
    let data = FIELDS
        .iter()
        .zip(values)
        .map(|(name, value)| ((*name).to_owned(), ByteString(value.clone().into_bytes())));
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let fresh = || Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        ..Secret::default()
    };
    let exists = old.is_some();
    let mut secret = old.unwrap_or_else(fresh);
    secret.data = Some(data.collect());
    if exists {
        api.replace(SECRET, &params, &secret).await?;
    } else {
        api.create(&params, &secret).await?;
    }
    Ok(())
}
