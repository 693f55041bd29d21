use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use proptest::prelude::*;

use super::{Keyring, Reference};

fn keyring(config: &str) -> Keyring {
    let mut keyring = Keyring::default();
    keyring.add_config(config.as_bytes()).unwrap();
    keyring
}

/// The users for an image, in the order in which they are tried.
fn users(keyring: &Keyring, image: &str) -> Vec<String> {
    let logins = keyring.logins(&Reference::parse(image).unwrap());
    let user = |basic: String| {
        let decoded = STANDARD.decode(basic.strip_prefix("Basic ").unwrap()).unwrap();
        String::from_utf8(decoded).unwrap().split(':').next().unwrap().to_owned()
    };
    logins.iter().map(|login| user(login.basic())).collect()
}

/// From the tests of the kubelet's keyring.
#[test]
fn registries_are_matched_as_the_kubelet_does() {
    for (location, image, fits) in [
        ("hello.example", "hello.example/x", true),
        ("https://hello.example/v1/", "hello.example/x", true),
        ("https://hello.example/v2/", "hello.example/x", true),
        ("http://hello.example", "hello.example/x", true),
        ("hello.example:5000", "hello.example/x", false),
        ("hello.example", "hello.example:5000/x", false),
        ("hello.example:5000", "hello.example:5000/x", true),
        ("*.example", "hello.example/x", true),
        ("*.example", "a.hello.example/x", false),
        ("*.*.example", "a.hello.example/x", true),
        ("pre*fix.example", "pre1fix.example/x", true),
        ("pre*fix.example", "pre1fax.example/x", false),
        ("hello.example/team", "hello.example/team/x", true),
        ("hello.example/team", "hello.example/other/x", false),
        ("hello.example/v1/team", "hello.example/team/x", true),
        ("HELLO.example", "hello.example/x", true),
        ("https://index.docker.io/v1/", "alpine", true),
        ("index.docker.io", "docker.io/a/b", true),
        ("docker.io", "alpine", true),
        ("index.docker.io", "hello.example/x", false),
        ("hello.example.evil", "hello.example/x", false),
        ("*", "hello.example/x", false),
    ] {
        let ring =
            keyring(&format!(r#"{{"auths": {{"{location}": {{"username": "u", "password": "p"}}}}}}"#));
        assert_eq!(users(&ring, image).len(), usize::from(fits), "{location} for {image}");
    }
}

#[test]
fn the_more_telling_is_tried_first_and_docker_is_the_last_resort() {
    let entry = |user: &str| format!(r#"{{"username": "{user}", "password": "p"}}"#);
    let config = format!(
        r#"{{"auths": {{"r.example": {}, "r.example/team": {}, "r.example/team/x": {}, "*.example": {}, "index.docker.io": {}}}}}"#,
        entry("host"),
        entry("team"),
        entry("x"),
        entry("any"),
        entry("docker")
    );
    let ring = keyring(&config);
    assert_eq!(users(&ring, "r.example/team/x"), ["x", "team", "host", "any"]);
    assert_eq!(users(&ring, "r.example/other"), ["host", "any"]);
    assert_eq!(users(&ring, "alpine"), ["docker"]);
    assert_eq!(users(&ring, "elsewhere.example.org/a"), [""; 0]);
}

#[test]
fn both_formats_and_both_ways_to_write_a_login_are_read() {
    let (padded, bare) = (STANDARD.encode("u:p:q"), STANDARD_NO_PAD.encode("u:p:q"));
    let expected = format!("Basic {}", STANDARD.encode("u:p:q"));
    let image = Reference::parse("r.example/x").unwrap();
    for auth in [padded, bare] {
        let entry = format!(r#"{{"r.example": {{"auth": "{auth}", "username": "other", "email": "a@b"}}}}"#);
        let mut legacy = Keyring::default();
        legacy.add_legacy(entry.as_bytes()).unwrap();
        let current = keyring(&format!(r#"{{"auths": {entry}, "credsStore": "x"}}"#));
        for ring in [legacy, current] {
            assert_eq!(ring.logins(&image)[0].basic(), expected);
        }
    }
    assert!(
        keyring(r#"{"auths": {"r.example": {}}}"#).logins(&image).is_empty(),
        "an entry of a credential helper"
    );
}

#[test]
fn what_is_wrong_is_said_without_what_is_in_it() {
    let canary = STANDARD.encode("canary");
    for config in [
        r#"{"auths": "canary"}"#.to_owned(),
        "canary".to_owned(),
        format!(r#"{{"auths": {{"r": {{"auth": "{canary}"}}}}}}"#),
        r#"{"auths": {"r": {"auth": "canary!"}}}"#.to_owned(),
    ] {
        let error = Keyring::default().add_config(config.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("canary") && !error.contains(&canary), "{error}");
    }
    let ring = keyring(r#"{"auths": {"r.example": {"username": "canary", "password": "canary"}}}"#);
    assert!(!format!("{ring:?}").contains("canary"));
    let entries: Vec<String> = (0..257).map(|n| format!(r#""r{n}.example": {{"username": "u"}}"#)).collect();
    let many = format!(r#"{{"auths": {{{}}}}}"#, entries.join(","));
    assert!(Keyring::default().add_config(many.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn no_configuration_makes_it_panic(text in ".{0,60}", host in "[a-z*./:]{0,20}") {
        drop(Keyring::default().add_config(text.as_bytes()));
        let mut ring = Keyring::default();
        ring.add_legacy(format!(r#"{{"{host}": {{"username": "u"}}}}"#).as_bytes()).unwrap();
        ring.logins(&Reference::parse("a.b/c/d").unwrap());
    }
}
