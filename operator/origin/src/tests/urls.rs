use operator_api::reason;

use super::server::{Reply, Server};
use super::{origin, whole};
use crate::redact;

#[tokio::test]
async fn t082_only_plain_http_urls_are_read() {
    for url in [
        "file:///etc/passwd",
        "ftp://example.com/x",
        "gopher://example.com/",
        "unix:/var/run/docker.sock",
        "data:text/plain,hello",
        "http://user@example.com/",
        "http://user:pw@example.com/",
        "http://:pw@example.com/",
        "http://example.com/a\r\nHost: evil",
        "http://exa\tmple.com/",
        " http://example.com/",
        "http://example.com/a b",
        "http://",
        "http:///",
        "//example.com/",
        "",
    ] {
        let error = origin().probe(url).await.expect_err(url);
        assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{url:?}: {error}");
    }
}

#[tokio::test]
async fn t082_a_name_in_other_letters_is_shown_as_it_is_dialled() {
    let error = origin().probe("http://user@\u{0440}aypal.com/").await.unwrap_err();
    assert!(error.to_string().contains("xn--"), "{error}");
}

#[tokio::test]
async fn t113_no_message_shows_a_query_or_a_password() {
    let server = Server::start(|request| match request.path().split('?').next().unwrap() {
        "/404" => Reply::sized(404, &[], b"canary"),
        "/500" => Reply::sized(500, &[], b"canary"),
        "/gzip" => Reply::sized(200, &[("Content-Encoding", "gzip")], b"canary"),
        "/long" => Reply::sized(200, &[], b"0123456789canary"),
        "/loop" => Reply::sized(302, &[("Location", "/loop?sig=canary")], b""),
        "/away" => Reply::sized(302, &[("Location", "http://169.254.169.254/?sig=canary")], b""),
        _ => Reply::new(200, &[("Content-Length", "5")], b"1"),
    })
    .await;
    for path in ["/404", "/500", "/gzip", "/long", "/loop", "/away", "/short"] {
        let url = server.url(&format!("{path}?sig=canary#canary"));
        let mut errors = vec![origin().get_small(&url, 6).await.expect_err(path)];
        if let Ok(mut body) = origin().read(&url, whole(5)).await {
            errors.extend(body.chunk().await.err());
            errors.extend(body.chunk().await.err());
        }
        for error in errors {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary") && shown.contains("http://"), "{shown}");
        }
    }
    let dead = origin().probe("http://127.0.0.1:1/x?sig=canary").await.unwrap_err();
    assert!(!format!("{dead} {dead:?}").contains("canary"), "{dead:?}");
    let password = origin().probe("http://user:canary@127.0.0.1/?canary").await.unwrap_err();
    assert!(!format!("{password} {password:?}").contains("canary"), "{password:?}");
}

#[test]
fn t113_a_redacted_url_keeps_what_helps_and_stays_short() {
    assert_eq!(redact("https://u:p@h.example:8443/a/b?x=1#f"), "https://h.example:8443/a/b?..");
    assert_eq!(redact("not a url with canary"), "<not a URL>");
    let long = redact(&format!("http://h/{}?q", "\u{e4}".repeat(500)));
    assert!(long.len() < 130 && long.ends_with("...?.."), "{long}");
}
