//! The API for sidecars, over HTTPS: sessions, grants, blobs on demand. The words are in `operator-api`.

mod access;
mod auth;
mod complete;
mod demands;
mod failure;
mod granted;
mod grants;
mod warrant;
mod witness;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use daemon::{BodyLimits, CancellationToken, ServeOptions};
use operator_api::{DEMANDS_PATH, GRANTS_PATH, SESSION_PATH, Session};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use auth::{Caller, Identity, Reviews, admit, identify};
pub use failure::ApiFailure;

use self::grants::{Subject, subject};
use crate::context::Context;
use crate::metrics::count;

/// The largest body that anyone has to send.
const BODY: BodyLimits = BodyLimits::up_to(64 << 10);

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    context: Arc<Context>,
    reviews: Arc<Reviews>,
}

/// The routes.
pub fn router(context: Arc<Context>) -> Router {
    let revision = format!("{GRANTS_PATH}{{revision}}");
    Router::new()
        .route(SESSION_PATH, post(session))
        .route(&revision, post(grants::open))
        .route(&format!("{revision}/progress"), post(grants::progress))
        .route(&format!("{revision}/failed"), post(grants::failed))
        .route(&format!("{revision}/complete"), post(complete::complete))
        .route(&format!("{revision}/witness"), post(witness::witness))
        .route(DEMANDS_PATH, post(demands::demand))
        .route(&format!("{DEMANDS_PATH}/held"), post(demands::held))
        .route(&format!("{DEMANDS_PATH}/failed"), post(demands::failed))
        .with_state(Api { context, reviews: Arc::default() })
}

/// Serves it until the end.
pub async fn serve(context: Arc<Context>, listener: TcpListener, end: CancellationToken) {
    let acceptor = TlsAcceptor::from(Arc::new(context.serving.server_config()));
    let handshake = move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await }
    };
    daemon::serve_with(listener, router(context), ServeOptions::default(), end, handshake).await;
}

impl Api {
    /// Who asks, if this operator may answer at all.
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiFailure> {
        if !self.context.is_acting() {
            return Err(ApiFailure::unavailable(
                "this operator does not lead or has not seen everything yet; ask again",
            ));
        }
        self.reviews.caller(&self.context, headers).await
    }

    /// Who asks, and what it says.
    async fn said<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        request: Body,
    ) -> Result<(Caller, T), ApiFailure> {
        let caller = self.caller(headers).await?;
        Ok((caller, body(request).await?))
    }

    /// Who asks, what it says, and of which revision.
    async fn heard<T: DeserializeOwned>(
        &self,
        revision: &str,
        headers: &HeaderMap,
        request: Body,
    ) -> Result<(Caller, T, Subject), ApiFailure> {
        let (caller, said) = self.said(headers, request).await?;
        let subject = subject(&self.context, &caller, revision)?;
        Ok((caller, said, subject))
    }

    /// Counts the answer and makes a response of it.
    fn answer<T: IntoResponse>(&self, what: &'static str, result: Result<T, ApiFailure>) -> Response {
        let outcome = result.as_ref().map_or_else(ApiFailure::outcome, |_| "ok");
        count(&self.context.metrics.requests, what, outcome);
        match result {
            Ok(answer) => answer.into_response(),
            Err(failure) => {
                tracing::debug!(what, %failure, "refused");
                failure.into_response()
            }
        }
    }
}

async fn session(State(api): State<Api>, headers: HeaderMap) -> Response {
    let result = async {
        let caller = api.caller(&headers).await?;
        let token = api.context.ledger().tokens.get(&caller.class).cloned();
        let tracker_token =
            token.ok_or_else(|| ApiFailure::unavailable("the class has no trackers yet; ask again"))?;
        Ok(axum::Json(Session { tracker_token }))
    };
    let result = result.await;
    api.answer("session", result)
}

/// A small JSON body.
async fn body<T: DeserializeOwned>(body: Body) -> Result<T, ApiFailure> {
    parse(&daemon::read_body(body, BODY).await?)
}

/// A small JSON body, or none at all.
async fn body_if_any<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiFailure> {
    let bytes = daemon::read_body(body, BODY).await?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiFailure> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiFailure::bad_request(format!("the body cannot be read: {error}")))
}
