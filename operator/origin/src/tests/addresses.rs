use std::net::IpAddr;

use operator_api::{OriginPolicy, reason};

use super::server::{Reply, Server};
use super::{Scripted, origin_with, quick};
use crate::{Guard, Options, Origin};

fn policy(allow: &[&str], deny: &[&str]) -> OriginPolicy {
    let owned = |rules: &[&str]| rules.iter().map(|&rule| rule.to_owned()).collect();
    OriginPolicy { allow: owned(allow), deny: owned(deny) }
}

#[tokio::test]
async fn t078_literal_addresses_that_are_no_origins_are_denied() {
    let origin = Origin::new(&OriginPolicy::default(), quick()).unwrap();
    for url in [
        "http://127.0.0.1/",
        "http://127.8.9.10/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://0x7f.0.0.0x1/",
        "http://0.0.0.0/",
        "http://0/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://[64:ff9b::169.254.169.254]/",
        "http://[64:ff9b:1::169.254.169.254]/",
        "http://[64:ff9b:1:a9fe:a9:fe00::]/",
        "http://[64:ff9b:1:7f:0:100::]/",
        "http://[64:ff9b:1:0:7f:0:100:0]/",
        "http://[64:ff9b:1:ffff:ffff:ffff:7f00:1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[::ffff:0:169.254.169.254]/",
        "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
        "http://[2001::5601:5601]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://[fd20:ce::254]/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://[fe80::1]/",
        "http://224.0.0.1/",
        "http://[ff02::1]/",
        "http://255.255.255.255/",
    ] {
        let error = origin.probe(url).await.expect_err(url);
        assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{url}: {error}");
    }
}

#[tokio::test]
async fn t078_the_api_server_is_denied_unless_an_admin_allows_it() {
    let api: IpAddr = "10.96.0.1".parse().unwrap();
    let options = Options { denied: vec![api], ..quick() };
    let origin = Origin::new(&OriginPolicy::default(), options).unwrap();
    let error = origin.probe("https://10.96.0.1/api").await.unwrap_err();
    assert!(error.to_string().contains("API server"), "{error}");

    let guard = Guard::new(&OriginPolicy::default(), vec![api]).unwrap();
    assert!(guard.denial(None, "::ffff:10.96.0.1".parse().unwrap()).is_some());
    let allowed = Guard::new(&policy(&["10.96.0.0/16"], &[]), vec![api]).unwrap();
    assert_eq!(allowed.denial(None, api), None);
}

#[test]
fn private_and_public_addresses_are_ordinary_origins() {
    let guard = Guard::new(&OriginPolicy::default(), Vec::new()).unwrap();
    for address in [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.7.7",
        "100.64.0.1",
        "1.1.1.1",
        "fd12:3456::1",
        "2606:4700::1111",
        "64:ff9b:1::1.1.1.1",
        "64:ff9b:1:101:1:100::",
        "::ffff:0:10.1.2.3",
        "2001:0:4136:e378:8000:63bf:f5fe:fdfc",
        "2001:db8::7f00:1",
    ] {
        assert_eq!(guard.denial(None, address.parse().unwrap()), None, "{address}");
    }
}

#[test]
fn deny_wins_over_allow_and_allow_over_what_is_built_in() {
    let guard = Guard::new(
        &policy(
            &["127.0.0.0/8", "*.internal.example", "mirror.example", "203.0.113.7"],
            &["127.0.0.2", "bad.internal.example", "10.0.0.0/8"],
        ),
        Vec::new(),
    )
    .unwrap();
    let denial = |name: Option<&str>, address: &str| guard.denial(name, address.parse().unwrap());
    assert_eq!(denial(None, "127.0.0.1"), None);
    assert_eq!(denial(None, "::ffff:127.0.0.1"), None, "the mapped form is the same socket");
    assert!(denial(None, "2002:7f00:1::").is_some(), "a tunnel into an allowed range is another matter");
    assert!(denial(None, "127.0.0.2").is_some());
    assert!(denial(None, "::ffff:10.1.1.1").is_some());
    assert_eq!(denial(Some("a.internal.example"), "169.254.1.1"), None);
    assert_eq!(denial(Some("A.Internal.Example."), "169.254.1.1"), None);
    assert!(denial(Some("internal.example"), "169.254.1.1").is_some(), "a suffix is not the name itself");
    assert!(denial(Some("evilinternal.example"), "169.254.1.1").is_some());
    assert!(denial(Some("bad.internal.example"), "1.1.1.1").is_some());
    assert_eq!(denial(Some("mirror.example"), "::1"), None);
    assert!(
        denial(Some("mirror.example"), "10.0.0.1").is_some(),
        "an allowed name does not open a denied address"
    );
}

#[test]
fn rules_that_mean_nothing_are_refused() {
    for rule in ["", " ", "*", "*.", "10.0.0.0/33", "http://a", "a b", "a/b", "[::1]", "0x7f.1", "*.*.a"] {
        let error = Guard::new(&policy(&[rule], &[]), Vec::new()).expect_err(rule);
        assert_eq!(error.rule, rule);
    }
}

#[tokio::test]
async fn t079_a_name_that_leads_to_a_denied_address_is_denied() {
    let server = Server::start(|_| Reply::sized(200, &[], b"secret")).await;
    let port = server.address.port();
    for answers in
        [&["127.0.0.1"][..], &["169.254.169.254"], &["192.0.2.1", "127.0.0.1"], &["::ffff:127.0.0.1"]]
    {
        let origin = origin_with(&OriginPolicy::default(), Scripted::new(&[answers]));
        let error = origin.probe(&format!("http://looks-fine.example:{port}/")).await.unwrap_err();
        assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{error}");
        assert!(error.to_string().contains("looks-fine.example ("), "the address is named: {error}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn t079_the_address_that_was_checked_is_the_one_dialled() {
    let server = Server::start(|_| Reply::sized(200, &[], b"fine")).await;
    let url = format!("http://rebinding.example:{}/", server.address.port());
    // The first answer is good and is used for this very connection; the name then changes its mind.
    let lookup = Scripted::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let origin = origin_with(&policy(&["127.0.0.1"], &[]), lookup);
    assert_eq!(&origin.get_small(&url, 10).await.unwrap()[..], b"fine");
    assert_eq!(origin.get_small(&url, 10).await.unwrap_err().reason(), reason::ORIGIN_DENIED);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn t079_the_system_resolver_is_guarded_too() {
    let server = Server::start(|_| Reply::sized(200, &[], b"x")).await;
    let origin = Origin::new(&OriginPolicy::default(), quick()).unwrap();
    let error = origin.probe(&format!("http://localhost:{}/", server.address.port())).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_DENIED, "{error}");
    assert!(server.requests().is_empty());
}
