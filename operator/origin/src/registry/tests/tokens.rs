use operator_api::reason;
use url::Url;

use super::scripted::{Scripted, all};
use super::{Digest, RegistryError};
use crate::HostRules;
use crate::registry::challenge::{Challenge, choose};
use crate::registry::realm::check;

/// `me:secret`.
const BASIC: &str = "Basic bWU6c2VjcmV0";
const CONFIG: &str = r#"{"auths": {"HERE": {"auth": "bWU6c2VjcmV0"}}}"#;

fn bearer(realm: &str, service: &str) -> Challenge {
    let service = (!service.is_empty()).then(|| service.to_owned());
    Challenge::Bearer { realm: realm.to_owned(), service }
}

#[test]
fn challenges_are_read_as_they_are_written() {
    for (headers, expected) in [
        (
            &[r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull""#][..],
            Some(bearer("https://a/t", "s")),
        ),
        (&[r#"bearer  Realm = "https://a/t" , SERVICE=s"#], Some(bearer("https://a/t", "s"))),
        (&[r#"Bearer realm="https://a/\"t,Basic x=y""#], Some(bearer("https://a/\"t,Basic x=y", ""))),
        (&[r#"Basic realm="r", Bearer realm="https://a/t""#], Some(bearer("https://a/t", ""))),
        (&[r#"Basic realm="r""#, r#"Bearer realm="https://a/t""#], Some(bearer("https://a/t", ""))),
        (&["Basic"], Some(Challenge::Basic)),
        (&[r#"Negotiate, Basic realm="r""#], Some(Challenge::Basic)),
        (&["Bearer"], None),
        (&[r#"Bearer realm="a",realm="b""#], None),
        (&["Digest realm=x", "", "=", ",,,", "\"", "Bearer realm=\""], None),
    ] {
        assert_eq!(choose(headers.iter().copied()), expected, "{headers:?}");
    }
}

#[test]
fn t094_passwords_go_to_the_registrys_own_host_or_where_an_admin_says() {
    let allowed = HostRules::new(&["auth.corp.example".into(), "*.trusted.example".into()]).unwrap();
    for (registry, realm, anyone, password) in [
        ("https://r.example/", "https://r.example/token", true, true),
        ("https://r.example/", "https://r.example:8443/token", true, true),
        ("https://r.example/", "https://evil.example/", true, false),
        ("https://r.example/", "https://r.example.evil/", true, false),
        ("https://r.example/", "http://r.example/token", false, false),
        ("https://r.example/", "http://auth.corp.example/", false, false),
        ("https://r.example/", "https://auth.corp.example/", true, true),
        ("https://r.example/", "https://a.trusted.example/", true, true),
        ("https://registry-1.docker.io/", "https://auth.docker.io/token", true, true),
        ("https://r.example/", "https://auth.docker.io/token", true, false),
        ("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth", true, true),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true, true),
        ("http://127.0.0.1:5000/", "http://127.0.0.2:5001/token", false, false),
        ("https://r.example/", "https://me:pw@r.example/", false, false),
        ("https://r.example/", "file:///etc/passwd", false, false),
        ("https://r.example/", "r.example/token", false, false),
        ("https://r.example/", "https://r.example/\r\nX: y", false, false),
    ] {
        let registry = Url::parse(registry).unwrap();
        let may = |with_password| check(&registry, realm, with_password, &allowed).is_ok();
        assert_eq!((may(false), may(true)), (anyone, password), "{registry} {realm}");
    }
}

#[tokio::test]
async fn an_anonymous_token_opens_what_is_public() {
    let registry = Scripted::start().await;
    registry.put_image(("linux", "amd64"), &[b"l"], Some("latest"));
    let challenge = format!(r#"Bearer realm="{}",service="reg""#, registry.server.url("/token?x=1"));
    registry.set(|script| {
        script.challenge = Some((challenge, "Bearer good".into()));
        script.token = Some((None, r#"{"access_token": "good", "expires_in": 300}"#.into()));
    });
    registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap();
    let asked = registry.asked();
    let tokens: Vec<_> = asked.iter().filter(|request| request.contains("/token")).collect();
    assert_eq!(
        tokens,
        ["GET /token?x=1&service=reg&scope=repository%3Ateam%2Fapp%3Apull"],
        "one for all of it"
    );
}

#[tokio::test]
async fn a_password_gives_a_token_and_only_that_is_handed_out() {
    let registry = Scripted::start().await;
    let entry = registry.put_image(("linux", "amd64"), &[b"l"], Some("latest"));
    let challenge = format!(r#"Bearer realm="{}""#, registry.server.url("/token"));
    registry.set(|script| {
        script.challenge = Some((challenge, "Bearer good".into()));
        script.token = Some((Some(BASIC.into()), r#"{"token": "good"}"#.into()));
    });
    let digest = Digest::parse(entry["digest"].as_str().unwrap()).unwrap();
    let opened = registry.registry(Some(CONFIG)).open(&digest).await.unwrap().unwrap();
    assert_eq!(opened.authorization.value, "Bearer good");
    assert_eq!(opened.authorization.origin, registry.server.url(""));
    let left = opened.until.unwrap().duration_since(std::time::Instant::now()).as_secs();
    assert!((50..=60).contains(&left), "60 s where the server does not say: {left}");
    assert!(!format!("{opened:?}").contains("good"));

    let error = registry.registry(None).open(&digest).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_UNAUTHORIZED);
    assert!(error.to_string().contains("give pullSecrets"), "{error}");
    let wrong = r#"{"auths": {"HERE": {"username": "me", "password": "canary"}}}"#;
    let error = registry.registry(Some(wrong)).open(&digest).await.unwrap_err();
    assert!(error.to_string().contains("nothing in the pullSecrets opens it"), "{error}");
    assert!(!error.to_string().contains("canary"));
}

#[tokio::test]
async fn basic_is_answered_with_the_login_that_is_let_in() {
    let registry = Scripted::start().await;
    let entry = registry.put_image(("linux", "amd64"), &[b"l"], Some("latest"));
    registry.set(|script| script.challenge = Some((r#"Basic realm="r""#.into(), BASIC.into())));
    let config = r#"{"auths": {"HERE/team": {"username": "old", "password": "old"}, "HERE": {"auth": "bWU6c2VjcmV0"}}}"#;
    let client = registry.registry(Some(config));
    client.image(&all(&["linux/amd64"])).await.unwrap();
    let digest = Digest::parse(entry["digest"].as_str().unwrap()).unwrap();
    let opened = client.open(&digest).await.unwrap().unwrap();
    assert_eq!((opened.authorization.value.as_str(), opened.until), (BASIC, None));
    assert_eq!(
        registry.registry(None).open(&digest).await.unwrap_err().reason(),
        reason::ORIGIN_UNAUTHORIZED
    );
}

#[tokio::test]
async fn t094_no_password_leaves_for_a_realm_elsewhere() {
    let (registry, evil) = (Scripted::start().await, Scripted::start().await);
    registry.put_image(("linux", "amd64"), &[b"l"], Some("latest"));
    // Another name for the same machine is another host.
    let realm = format!("http://localhost:{}/token", evil.server.address.port());
    for realm in [realm.as_str(), "https://evil.example/token"] {
        let challenge = format!(r#"Bearer realm="{realm}""#);
        registry.set(|script| script.challenge = Some((challenge, "Bearer good".into())));
        let error = registry.registry(Some(CONFIG)).image(&all(&["linux/amd64"])).await.unwrap_err();
        assert!(matches!(error, RegistryError::Realm { .. }), "{error}");
        assert_eq!(error.reason(), reason::ORIGIN_DENIED);
    }
    assert!(evil.asked().is_empty());
    assert!(!registry.server.requests().iter().any(|request| request.header("authorization").is_some()));

    // A token server that sends whoever asks elsewhere does not take the password along.
    let challenge = format!(r#"Bearer realm="{}""#, registry.server.url("/token"));
    let elsewhere = evil.server.url("/token");
    registry.set(|script| {
        script.challenge = Some((challenge, "Bearer good".into()));
        script.instead.insert(
            "/token?scope=repository%3Ateam%2Fapp%3Apull".into(),
            (302, vec![("Location".into(), elsewhere)]),
        );
    });
    evil.set(|script| script.token = Some((None, r#"{"token": "evil"}"#.into())));
    assert!(registry.registry(Some(CONFIG)).image(&all(&["linux/amd64"])).await.is_err());
    assert!(evil.server.requests().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(evil.asked().len(), 1);
}

#[tokio::test]
async fn t094_a_realm_on_a_denied_address_is_not_dialled() {
    let registry = Scripted::start().await;
    registry.set(|script| {
        script.challenge =
            Some((r#"Bearer realm="https://169.254.169.254/token""#.into(), "Bearer x".into()));
    });
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{error}");
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
}

#[tokio::test]
async fn an_answer_without_a_usable_token_is_said_and_not_shown() {
    let registry = Scripted::start().await;
    let challenge = format!(r#"Bearer realm="{}""#, registry.server.url("/token"));
    registry.set(|script| script.challenge = Some((challenge, "Bearer good".into())));
    for body in [
        "canary",
        "{}",
        r#"{"token": ""}"#,
        r#"{"token": "canary\r\nX: y"}"#,
        r#"{"token": 7, "x": "canary"}"#,
    ] {
        registry.set(|script| script.token = Some((None, body.into())));
        let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
        assert_eq!(error.reason(), reason::ORIGIN_UNAVAILABLE, "{body}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn a_blob_is_looked_at_as_anybody_may() {
    let registry = Scripted::start().await;
    let blob = registry.put("blobs", "application/octet-stream", b"a layer", None);
    let digest = Digest::parse(blob["digest"].as_str().unwrap()).unwrap();
    let (size, opened) = registry.registry(None).look_at(&digest).await.unwrap();
    assert!(size == 7 && opened.is_none(), "it is open");

    let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", registry.server.address);
    registry.set(|script| {
        script.challenge = Some((realm, "Bearer everyone".into()));
        script.token = Some((None, r#"{"token": "everyone"}"#.into()));
    });
    let (size, opened) = registry.registry(None).look_at(&digest).await.unwrap();
    assert_eq!((size, opened.unwrap().authorization.value.as_str()), (7, "Bearer everyone"));

    registry.set(|script| script.token = Some((Some(BASIC.into()), String::new())));
    let refused = registry.registry(None).look_at(&digest).await.unwrap_err();
    assert!(refused.is_final() && refused.reason() == reason::ORIGIN_UNAUTHORIZED, "{refused}");
    registry.set(|script| script.challenge = Some(("Basic realm=\"r\"".into(), BASIC.into())));
    let refused = registry.registry(None).look_at(&digest).await.unwrap_err();
    assert_eq!(refused.reason(), reason::ORIGIN_UNAUTHORIZED);
    let shown = |request: &crate::tests::server::Request| request.header("authorization").map(str::to_owned);
    let shown: Vec<String> = registry.server.requests().iter().filter_map(shown).collect();
    assert_eq!(shown, ["Bearer everyone"], "nobody is shown anything else");

    registry.set(|script| script.challenge = None);
    let nowhere = registry.registry(None).look_at(&Digest::of(b"another")).await.unwrap_err();
    assert_eq!(nowhere.reason(), reason::ORIGIN_NOT_FOUND);
    let path = format!("blobs/{digest}");
    registry.set(|script| drop(script.instead.insert(path, (503, Vec::new()))));
    assert!(!registry.registry(None).look_at(&digest).await.unwrap_err().is_final(), "it may give it later");
}
