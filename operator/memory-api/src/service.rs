//! The HTTP side: a tower service that answers as an API server does.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tower::{BoxError, Service};

use crate::{
    error::ApiError,
    routes::{Query, Route},
    shared::{Call, Shared},
    tokens,
    verbs::{self, Asked, Verb},
    watch,
};

/// The body of an answer: one JSON document, or a watch.
pub type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// The service itself: cheap to clone, all clones share one state.
#[derive(Clone)]
pub struct MemoryService {
    pub(crate) shared: Arc<Shared>,
}

impl<B> Service<Request<B>> for MemoryService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            Ok(answer(&shared, &parts, &body).unwrap_or_else(|error| refusal(&error)))
        })
    }
}

fn answer(shared: &Arc<Shared>, parts: &Parts, body: &[u8]) -> Result<Response<ResponseBody>, ApiError> {
    let path = parts.uri.path();
    let query = Query::parse(parts.uri.query())?;
    let route = Route::parse(path)?;
    let verb = Verb::of(&route, &parts.method, &query)?;
    shared.intercept(&Call { verb: verb.name(), path, query: parts.uri.query(), body })?;
    let asked = Asked { verb, query: &query, headers: &parts.headers, body };
    match route {
        Route::Version => {
            let version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0-memory"});
            Ok(json_answer(StatusCode::OK, &version))
        }
        Route::Ready => Ok(respond(StatusCode::OK, "text/plain", "ok".into())),
        Route::TokenReview => {
            let review = tokens::review(&shared.lock(), asked.json()?)?;
            Ok(json_answer(StatusCode::CREATED, &review))
        }
        Route::Collection { id, namespace } if verb == Verb::Watch => {
            let request = query.watch(id, namespace, asked.view())?;
            let body = StreamBody::new(watch::start(shared, request)).boxed_unsync();
            Ok(with_type(StatusCode::OK, "application/json", body))
        }
        Route::Collection { id, namespace } => {
            let (code, value) = verbs::on_collection(shared, id, namespace.as_deref(), &asked)?;
            Ok(json_answer(code, &value))
        }
        Route::Object { id, namespace, name, status } => {
            let (code, value) = verbs::on_object(shared, id, &(namespace, name), status, &asked)?;
            Ok(json_answer(code, &value))
        }
    }
}

fn refusal(error: &ApiError) -> Response<ResponseBody> {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_answer(code, &error.to_status())
}

fn json_answer(code: StatusCode, value: &Value) -> Response<ResponseBody> {
    respond(code, "application/json", value.to_string())
}

fn respond(code: StatusCode, content_type: &'static str, body: String) -> Response<ResponseBody> {
    with_type(code, content_type, Full::new(Bytes::from(body)).boxed_unsync())
}

fn with_type(code: StatusCode, content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
