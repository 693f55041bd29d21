//! An operator that only answers sidecars: real TLS, scripted grants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use operator_api::{
    Authorization, Completed, ErrorBody, Failed, Grant, GrantRequest, Lease, Progress, Retry, Session,
    Witnessed,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use torrent::ingest::{PublicKey, SigningKey, Warrant};

/// What it knows. Tests change it.
#[derive(Default)]
pub struct Script {
    /// The bearer token for trackers.
    pub tracker_token: String,
    /// Who gets which grant: (revision, node).
    pub grants: BTreeMap<(String, String), Grant>,
    /// What came in.
    pub completed: BTreeMap<String, Completed>,
    pub failed: Vec<(String, Failed)>,
    pub witnessed: Vec<(String, Witnessed)>,
    pub progress: Vec<(String, Progress)>,
    /// What the origin is to be shown from the next sign of life on.
    pub renewed: Option<Authorization>,
}

#[derive(Clone)]
pub struct FakeOperator {
    pub script: Arc<Mutex<Script>>,
    pub url: String,
    pub ca: String,
}

impl FakeOperator {
    pub async fn start(stop: CancellationToken) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let operator = Self { script: Arc::default(), url, ca: cert.pem() };
        let router = Router::new()
            .route("/v1/session", post(session))
            .route("/v1/grants/{revision}", post(grant))
            .route("/v1/grants/{revision}/progress", post(progress))
            .route("/v1/grants/{revision}/complete", post(complete))
            .route("/v1/grants/{revision}/failed", post(failed))
            .route("/v1/grants/{revision}/witness", post(witness))
            .with_state(operator.clone());
        tokio::spawn(daemon::serve_with(
            listener,
            router,
            daemon::ServeOptions::default(),
            stop,
            move |stream| {
                let acceptor = acceptor.clone();
                async move { acceptor.accept(stream).await }
            },
        ));
        operator
    }
}

fn node(headers: &HeaderMap) -> String {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    shown.trim_start_matches("Bearer ").to_owned()
}

fn lost() -> Response {
    (StatusCode::CONFLICT, Json(ErrorBody { error: "the grant is another's".into() })).into_response()
}

async fn session(State(operator): State<FakeOperator>) -> Json<Session> {
    Json(Session { tracker_token: operator.script.lock().unwrap().tracker_token.clone() })
}

async fn grant(
    State(operator): State<FakeOperator>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<GrantRequest>,
) -> Response {
    let node = node(&headers);
    let Some(mut grant) = operator.script.lock().unwrap().grants.get(&(revision, node.clone())).cloned()
    else {
        return lost();
    };
    if let (Some(ingest), Some(key)) = (&mut grant.ingest, &asked.key) {
        let (id, key) = (ingest.id.parse().unwrap(), PublicKey::parse(key).unwrap());
        ingest.warrant = hex::encode(Warrant::new(&opener(), id, &node, key).unwrap().encode());
    }
    Json(grant).into_response()
}

/// Whose word the nodes take for who may read.
pub fn opener() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

async fn progress(
    State(operator): State<FakeOperator>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    Json(progress): Json<Progress>,
) -> Response {
    let mut script = operator.script.lock().unwrap();
    let ours = script.grants.get(&(revision.clone(), node(&headers))).is_some_and(|g| g.id == progress.grant);
    script.progress.push((revision, progress));
    if ours {
        Json(Lease {
            expires_in_seconds: 30,
            index: 0,
            of: 0,
            bandwidth_per_second: None,
            authorization: script.renewed.clone(),
        })
        .into_response()
    } else {
        lost()
    }
}

async fn complete(
    State(operator): State<FakeOperator>,
    Path(revision): Path<String>,
    Json(completed): Json<Completed>,
) -> StatusCode {
    operator.script.lock().unwrap().completed.insert(revision, completed);
    StatusCode::NO_CONTENT
}

async fn failed(
    State(operator): State<FakeOperator>,
    Path(revision): Path<String>,
    Json(failed): Json<Failed>,
) -> Json<Retry> {
    operator.script.lock().unwrap().failed.push((revision, failed));
    Json(Retry { after_seconds: 1 })
}

async fn witness(
    State(operator): State<FakeOperator>,
    Path(revision): Path<String>,
    headers: HeaderMap,
    Json(said): Json<Witnessed>,
) -> StatusCode {
    assert!(!operator.script.lock().unwrap().grants.contains_key(&(revision, node(&headers))), "it reads");
    operator.script.lock().unwrap().witnessed.push((node(&headers), said));
    StatusCode::NO_CONTENT
}
