//! What is said to others in a registry's name.

use operator_api::OriginPolicy;

use super::scripted::{OCI_MANIFEST, Scripted};
use super::{Digest, Porter, Reference, RegistryError, Verdict};
use crate::tests::{loopback_allowed, quick};
use crate::{HostRules, OriginError};

const MANIFEST: &[u8] = b"{}";

struct Asked {
    registry: Scripted,
    porter: Porter,
    image: Reference,
    digest: Digest,
}

impl Asked {
    async fn start() -> Self {
        Self::by(&loopback_allowed()).await
    }

    async fn by(policy: &OriginPolicy) -> Self {
        let registry = Scripted::start().await;
        registry.put("manifests", OCI_MANIFEST, MANIFEST, None);
        let image = Reference::parse(&format!("{}/team/app:1", registry.server.address)).unwrap();
        let porter = Porter::new(policy, HostRules::default(), quick()).unwrap();
        Self { registry, porter, image, digest: Digest::of(MANIFEST) }
    }

    async fn ask(&self, token: Option<&str>) -> Result<Verdict, RegistryError> {
        self.porter.ask(&self.image, &self.digest, token).await
    }

    /// Wants to be shown `Bearer good` from now on, which is to be had here.
    fn challenge(&self, headers: &str) -> String {
        let challenge = headers.replace("HERE", &self.registry.server.url(""));
        self.registry.set(|script| script.challenge = Some((challenge.clone(), "Bearer good".into())));
        challenge
    }
}

#[tokio::test]
async fn a_challenge_is_passed_on_as_it_stands_and_a_token_is_shown_once() {
    let asked = Asked::start().await;
    let challenge =
        asked.challenge(r#"Bearer realm="HERE/token",service="reg",scope="repository:team/app:pull""#);
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Challenge(challenge));
    assert_eq!(asked.ask(Some("good")).await.unwrap(), Verdict::Given);
    assert_eq!(asked.ask(Some("bad")).await.unwrap(), Verdict::Refused);
    assert_eq!(
        asked.ask(Some("a\r\nb: c")).await.unwrap(),
        Verdict::Refused,
        "it is no token, and nobody is asked"
    );
    assert_eq!(
        asked.registry.asked(),
        vec![format!("HEAD manifests/{}", asked.digest); 3],
        "nor a token server"
    );
    let shown: Vec<_> = asked
        .registry
        .server
        .requests()
        .iter()
        .map(|r| r.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(shown, [None, Some("Bearer good".to_owned()), Some("Bearer bad".to_owned())]);
}

#[tokio::test]
async fn what_everybody_gets_everybody_gets() {
    let asked = Asked::start().await;
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Given);
    let other = asked.porter.ask(&asked.image, &Digest::of(b"other"), None).await.unwrap();
    assert_eq!(other, Verdict::Refused, "it is not there");
    asked.registry.set(|script| script.silent = true);
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Given, "not every registry says the digest");
    // A page for people.
    asked.registry.set(|script| {
        let page = ("text/html".to_owned(), b"<html>".to_vec());
        script.stored.insert(format!("manifests/{}", asked.digest), page);
    });
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Refused);
    asked.registry.set(|script| script.silent = false);
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Refused, "another digest");
}

#[tokio::test]
async fn what_asks_for_a_password_is_not_passed_on() {
    let asked = Asked::start().await;
    for headers in [
        r#"Basic realm="r""#,
        r#"Bearer realm="HERE/token", Basic realm="r""#,
        r#"Basic realm="r", Bearer realm="HERE/token""#,
        r#"Bearer realm="HERE/token",realm="https://evil.example/""#,
        r#"Bearer realm="HERE/token\"",service="s""#,
        r#"Negotiate, Bearer realm="HERE/token""#,
        "Bearer",
        "Negotiate",
    ] {
        asked.challenge(headers);
        assert_eq!(asked.ask(None).await.unwrap(), Verdict::Refused, "{headers}");
    }
    let long = format!(r#"Bearer realm="HERE/token",service="{}""#, "s".repeat(5000));
    asked.challenge(&long);
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Refused);
}

#[tokio::test]
async fn t094_nobody_is_sent_where_a_password_must_not_go() {
    let asked = Asked::start().await;
    for realm in
        ["https://evil.example/", "http://127.0.0.2/token", "http://r.example/token", "ftp://HERE/", "token"]
    {
        asked.challenge(&format!(r#"Bearer realm="{realm}""#));
        let error = asked.ask(None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Realm { .. }), "{realm}: {error}");
    }
    // An admin may name the host, but not what its name leads to.
    let rules = vec!["127.0.0.1/32".to_owned(), "evil.example".to_owned()];
    for host in ["169.254.169.254", "[::1]", "localhost"] {
        let mut allow = rules.clone();
        allow.push(if host == "localhost" { "localhost".to_owned() } else { "127.0.0.1".to_owned() });
        let deny = vec!["::1/128".to_owned(), "169.254.0.0/16".to_owned(), "127.0.0.0/8".to_owned()];
        let porter = Porter::new(&OriginPolicy { allow, deny }, HostRules::default(), quick()).unwrap();
        let url = url::Url::parse(&format!("https://{host}/token")).unwrap();
        let error = porter.origin.may_dial(&url).await.unwrap_err();
        assert!(matches!(error, OriginError::Denied { .. }), "{host}: {error}");
    }
}

#[tokio::test]
async fn t079_a_registry_at_a_denied_address_is_not_dialled_for_anybody() {
    let asked = Asked::by(&OriginPolicy::default()).await;
    let error = asked.ask(Some("good")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Origin(OriginError::Denied { .. })), "{error}");
    assert_eq!(asked.registry.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn t081_a_token_is_not_shown_to_whom_the_registry_sends_to_and_their_challenge_is_not_its() {
    let (asked, other) = (Asked::start().await, Scripted::start().await);
    let path = format!("manifests/{}", asked.digest);
    let there = other.server.url(&format!("/v2/team/app/{path}"));
    asked.registry.set(|script| {
        script.instead.insert(path.clone(), (307, vec![("Location".into(), there)]));
    });
    let challenge = format!(r#"Bearer realm="{}""#, other.server.url("/token"));
    other.set(|script| script.challenge = Some((challenge, "Bearer good".into())));
    assert_eq!(asked.ask(None).await.unwrap(), Verdict::Refused);
    assert_eq!(asked.ask(Some("good")).await.unwrap(), Verdict::Refused);
    assert!(other.server.requests().iter().all(|request| request.header("authorization").is_none()));
    // Nor is a yes from there.
    let header = vec![("Docker-Content-Digest".into(), asked.digest.to_string())];
    other.set(|script| {
        script.challenge = None;
        script.instead.insert(path.clone(), (200, header));
    });
    assert_eq!(asked.ask(Some("good")).await.unwrap(), Verdict::Refused);
}

#[tokio::test]
async fn a_registry_that_has_no_answer_has_said_nothing() {
    let asked = Asked::start().await;
    for status in [429, 500, 503] {
        asked.registry.set(|script| script.headless = Some(status));
        assert!(matches!(asked.ask(Some("good")).await, Err(RegistryError::Origin(_))), "{status}");
    }
}
