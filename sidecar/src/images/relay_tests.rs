//! How often registries are asked, and what is kept of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use crds::OriginRules;
use mirror::{Digest, Gate as _, Repository, Verdict};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Relay;
use crate::class::ClassInfo;

/// A registry that takes one token, and tokens' server.
#[derive(Clone)]
struct Upstream {
    host: String,
    asked: Arc<AtomicUsize>,
    /// It answers with this instead.
    instead: Arc<Mutex<Option<StatusCode>>>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let upstream = Self { host, asked: Arc::default(), instead: Arc::default() };
        let router = Router::new().fallback(answer).with_state(upstream.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        upstream
    }

    fn repository(&self, path: &str) -> Repository {
        Repository::new(&self.host, path).unwrap()
    }

    /// How often it was asked since the last time.
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }

    fn says(&self, status: Option<StatusCode>) {
        *self.instead.lock().unwrap() = status;
    }

    fn challenge(&self) -> String {
        format!(r#"Bearer realm="http://{}/token",service="s""#, self.host)
    }
}

async fn answer(State(upstream): State<Upstream>, headers: HeaderMap) -> Response {
    upstream.asked.fetch_add(1, Ordering::Relaxed);
    if let Some(status) = *upstream.instead.lock().unwrap() {
        return status.into_response();
    }
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some("Bearer good") => [("docker-content-digest", manifest().to_string())].into_response(),
        Some(_) => StatusCode::FORBIDDEN.into_response(),
        None => (StatusCode::UNAUTHORIZED, [("www-authenticate", upstream.challenge())]).into_response(),
    }
}

fn manifest() -> Digest {
    Digest::of(b"{}")
}

fn class(allow: &[&str]) -> Arc<ClassInfo> {
    let allow = allow.iter().map(|rule| (*rule).to_owned()).collect();
    let origin = OriginRules { allow, ..OriginRules::default() };
    Arc::new(ClassInfo { origin, ..ClassInfo::default() })
}

fn relay() -> (watch::Sender<Option<Arc<ClassInfo>>>, Relay) {
    let (told, class) = watch::channel(Some(class(&["127.0.0.0/8"])));
    (told, Relay::new(class, Vec::new()))
}

/// The clock is so much further. It runs all the while: connections have timeouts.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_registry_is_asked_once_a_minute_for_each_token_and_for_its_challenge() {
    let (upstream, (_told, relay)) = (Upstream::start().await, relay());
    let (one, two) = (upstream.repository("team/app"), upstream.repository("team/other"));
    for _ in 0..3 {
        assert_eq!(relay.ask(&one, &manifest(), None).await, Verdict::Challenge(upstream.challenge()));
    }
    assert_eq!(upstream.asked(), 1);
    for _ in 0..3 {
        assert_eq!(relay.ask(&one, &manifest(), Some("good")).await, Verdict::Given);
    }
    assert_eq!(upstream.asked(), 1);
    assert_eq!(relay.ask(&two, &manifest(), Some("good")).await, Verdict::Given);
    assert_eq!(upstream.asked(), 1, "a token is for one repository");
    for _ in 0..2 {
        assert_eq!(relay.ask(&one, &manifest(), Some("bad")).await, Verdict::Elsewhere);
    }
    assert_eq!(upstream.asked(), 2, "a refusal is not remembered");

    upstream.says(Some(StatusCode::SERVICE_UNAVAILABLE));
    later(50).await;
    assert_eq!(
        relay.ask(&one, &manifest(), Some("good")).await,
        Verdict::Given,
        "its word counts to its end"
    );
    later(11).await;
    assert_eq!(relay.ask(&one, &manifest(), Some("good")).await, Verdict::Elsewhere);
    assert_eq!(relay.ask(&one, &manifest(), None).await, Verdict::Elsewhere);
    assert_eq!(upstream.asked(), 2);
    upstream.says(None);
    later(5).await;
    assert_eq!(relay.ask(&one, &manifest(), None).await, Verdict::Elsewhere, "it is left alone for a moment");
    later(6).await;
    assert_eq!(relay.ask(&one, &manifest(), None).await, Verdict::Challenge(upstream.challenge()));
}

#[tokio::test]
async fn other_rules_forget_what_was_said_under_the_old_ones() {
    let (upstream, (told, relay)) = (Upstream::start().await, relay());
    let one = upstream.repository("team/app");
    let ask = || async { relay.ask(&one, &manifest(), Some("good")).await };
    assert_eq!((ask().await, upstream.asked()), (Verdict::Given, 1));
    told.send_replace(Some(class(&[])));
    assert_eq!((ask().await, upstream.asked()), (Verdict::Elsewhere, 0), "loopback is denied");
    told.send_replace(Some(class(&["no rule!"])));
    assert_eq!((ask().await, upstream.asked()), (Verdict::Elsewhere, 0));
    told.send_replace(Some(class(&["127.0.0.0/8"])));
    assert_eq!((ask().await, upstream.asked()), (Verdict::Given, 1));
    told.send_replace(None);
    assert_eq!((ask().await, upstream.asked()), (Verdict::Elsewhere, 0));
}

#[tokio::test]
async fn t094_no_token_is_kept_as_it_is() {
    let (upstream, (_told, relay)) = (Upstream::start().await, relay());
    let one = upstream.repository("team/app");
    assert_eq!(relay.ask(&one, &manifest(), Some("good")).await, Verdict::Given);
    assert!(!format!("{relay:?}").contains("good"));
    let (_, other) = super::relay_tests::relay();
    let manifest = manifest();
    assert_ne!(
        relay.mark((&one, &manifest), "good"),
        other.mark((&one, &manifest), "good"),
        "each process has a key of its own"
    );
    let marks = [("a", "b"), ("ab", "")]
        .map(|(path, token)| relay.mark((&upstream.repository(path), &manifest), token));
    assert_ne!(marks[0], marks[1]);
}

#[tokio::test]
async fn a_token_is_for_one_manifest_and_many_who_ask_at_once_ask_once() {
    let (upstream, (_told, relay)) = (Upstream::start().await, relay());
    let one = upstream.repository("team/app");
    let digest = manifest();
    let all = (0..20).map(|_| relay.ask(&one, &digest, Some("good")));
    assert!(futures::future::join_all(all).await.iter().all(|verdict| *verdict == Verdict::Given));
    assert!(upstream.asked() <= 16, "who waited for a turn has heard it");
    // The registry gives another one to nobody: what it says of one manifest is of that one.
    upstream.says(Some(StatusCode::PRECONDITION_FAILED));
    assert_eq!(relay.ask(&one, &Digest::of(b"another"), Some("good")).await, Verdict::Elsewhere);
    assert_eq!(relay.ask(&one, &digest, Some("good")).await, Verdict::Given);
}

#[tokio::test]
async fn a_registry_is_nobody_else_than_it_was_said() {
    let (_told, relay) = relay();
    let began = std::time::Instant::now();
    let repository = Repository::new("Harbor", "team/app").unwrap();
    assert_eq!(relay.ask(&repository, &manifest(), None).await, Verdict::Elsewhere);
    assert!(began.elapsed() < Duration::from_millis(100), "nobody is asked");
}
