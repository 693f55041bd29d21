use std::sync::Arc;

use operator_api::{Authorization, OriginPolicy, reason};

use super::server::{Reply, Server};
use super::transport::Tls;
use super::{Scripted, loopback_allowed, origin, origin_with, quick};
use crate::resolve::System;
use crate::{Access, MAX_REDIRECTS, Options, Origin};

fn to(target: &str) -> Reply {
    Reply::sized(302, &[("Location", target)], b"")
}

#[tokio::test]
async fn t080_a_redirect_to_a_denied_address_is_denied() {
    for target in
        ["http://169.254.169.254/latest/", "http://[::1]/", "http://2130706434/", "//[fd00:ec2::254]/x"]
    {
        let server = Server::start(move |_| to(target)).await;
        let policy = OriginPolicy { allow: vec!["127.0.0.1".to_owned()], deny: Vec::new() };
        let origin = Origin::new(&policy, quick()).unwrap();
        for error in [
            origin.get_small(&server.url("/"), 100).await.unwrap_err(),
            origin.probe(&server.url("/")).await.unwrap_err(),
        ] {
            assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{target}: {error}");
        }
    }
}

#[tokio::test]
async fn t080_a_redirect_to_a_name_is_checked_by_the_resolver() {
    let server = Server::start(|_| to("http://second.example/")).await;
    let url = format!("http://first.example:{}/", server.address.port());
    let policy = OriginPolicy { allow: vec!["127.0.0.1".to_owned()], deny: Vec::new() };
    let origin = origin_with(&policy, Scripted::new(&[&["127.0.0.1"], &["169.254.169.254"]]));
    let error = origin.get_small(&url, 10).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{error}");
    assert!(error.to_string().contains("second.example"), "{error}");
}

#[tokio::test]
async fn t081_at_most_five_redirects_are_followed() {
    let server = Server::start(|request| {
        let left: usize = request.path()[1..].parse().unwrap();
        if left == 0 { Reply::sized(200, &[], b"arrived") } else { to(&format!("/{}", left - 1)) }
    })
    .await;
    let at = |hops: usize| server.url(&format!("/{hops}"));
    assert_eq!(&origin().get_small(&at(MAX_REDIRECTS), 10).await.unwrap()[..], b"arrived");
    let error = origin().get_small(&at(MAX_REDIRECTS + 1), 10).await.unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");
}

#[tokio::test]
async fn t081_credentials_stay_with_the_origin_they_are_for() {
    let other = Server::start(|_| Reply::sized(200, &[], b"theirs")).await;
    let target = other.url("/theirs");
    let server = Server::start(move |request| match request.path() {
        "/start" => to("/same"),
        _ => to(&target),
    })
    .await;
    let (origin, value) = (server.url(""), "Bearer canary".to_owned());
    let access = Arc::new(Access::new(Some(&Authorization { origin, value })));
    assert!(!format!("{access:?}").contains("canary"));
    let origin = Origin::new(&loopback_allowed(), Options { access: access.clone(), ..quick() }).unwrap();
    origin.get_small(&server.url("/start"), 10).await.unwrap();

    let ours = server.requests();
    assert_eq!(ours.len(), 2);
    assert!(ours.iter().all(|request| request.header("authorization") == Some("Bearer canary")));
    let theirs = other.requests();
    assert_eq!(theirs.len(), 1);
    assert!(!theirs[0].0.contains("canary"), "{}", theirs[0].0);

    // Nor does it go to another origin that a URL names, and a newer one takes its place.
    origin.get_small(&other.url("/"), 10).await.unwrap();
    assert_eq!(other.requests()[1].header("authorization"), None);
    access.renew(&Authorization { origin: other.url(""), value: "Bearer newer".into() });
    origin.get_small(&other.url("/"), 10).await.unwrap();
    assert_eq!(other.requests()[2].header("authorization"), Some("Bearer newer"));
}

#[tokio::test]
async fn t081_https_never_leads_to_http() {
    let plain = Server::start(|_| Reply::sized(200, &[], b"plain")).await;
    let target = plain.url("/");
    let tls = Tls::new();
    let server = Server::start_with(move |_| to(&target), Some(tls.acceptor.clone())).await;
    let origin = Origin::build(&loopback_allowed(), quick(), Arc::new(System), tls.roots.clone()).unwrap();
    let error =
        origin.get_small(&format!("https://localhost:{}/", server.address.port()), 10).await.unwrap_err();
    assert!(error.to_string().contains("from https to http"), "{error}");
    assert_eq!(error.reason(), reason::ORIGIN_DENIED);
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn t082_a_redirect_to_another_scheme_or_with_a_password_is_refused() {
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "http://user:canary@127.0.0.1/"] {
        let server = Server::start(move |_| to(target)).await;
        let error = origin().get_small(&server.url("/"), 10).await.unwrap_err();
        assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{target}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
