//! An origin whose files and moods the test sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

#[derive(Default)]
struct Content {
    files: BTreeMap<String, (Vec<u8>, String)>,
    /// A status that everything is answered with.
    mood: Option<u16>,
    requests: usize,
}

#[derive(Clone)]
pub struct OriginServer {
    pub url: String,
    content: Arc<Mutex<Content>>,
}

impl OriginServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let content: Arc<Mutex<Content>> = Arc::default();
        let router = Router::new().fallback(answer).with_state(content.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, content }
    }

    /// Puts a file there, with an ETag.
    pub fn put(&self, path: &str, bytes: &[u8], etag: &str) -> String {
        let path = format!("/{path}");
        self.content.lock().unwrap().files.insert(path.clone(), (bytes.to_vec(), format!("\"{etag}\"")));
        format!("{}{path}", self.url)
    }

    /// Answers everything with this status from now on.
    pub fn mood(&self, status: Option<u16>) {
        self.content.lock().unwrap().mood = status;
    }

    pub fn requests(&self) -> usize {
        self.content.lock().unwrap().requests
    }
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request) -> Response {
    let mut content = content.lock().unwrap();
    content.requests += 1;
    if let Some(status) = content.mood {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    match content.files.get(request.uri().path()) {
        Some((bytes, etag)) => ([("etag", etag.clone())], bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
