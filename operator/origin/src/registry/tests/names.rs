use proptest::prelude::*;

use super::Reference;
use crate::registry::Digest;

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// From the tests of `distribution/reference`: what is written, and what it is in full.
#[test]
fn references_are_completed_as_docker_does() {
    for (written, full) in [
        ("test.com/foo", "test.com/foo:latest"),
        ("test_com/foo", "docker.io/test_com/foo:latest"),
        ("private/moonbase", "docker.io/private/moonbase:latest"),
        ("docker.io/moonbase", "docker.io/library/moonbase:latest"),
        ("index.docker.io/moonbase", "docker.io/library/moonbase:latest"),
        ("index.docker.io/private/moonbase", "docker.io/private/moonbase:latest"),
        ("moonbase", "docker.io/library/moonbase:latest"),
        ("library/ubuntu:24.04", "docker.io/library/ubuntu:24.04"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:5000", "localhost:5000/x:5000"),
        ("Uppercase.com/x", "Uppercase.com/x:latest"),
        ("UPPER/x", "UPPER/x:latest"),
        ("[2001:db8::1]:5000/repo:t", "[2001:db8::1]:5000/repo:t"),
        ("[2001:db8::1]/repo", "[2001:db8::1]/repo:latest"),
        ("192.168.1.1/repo", "192.168.1.1/repo:latest"),
        ("a.b/foo__bar/b-----a.c:V_1.x-Y", "a.b/foo__bar/b-----a.c:V_1.x-Y"),
        ("xn--n3h.com/myimage", "xn--n3h.com/myimage:latest"),
    ] {
        assert_eq!(Reference::parse(written).unwrap().to_string(), full, "{written}");
    }
    let pinned = format!("alpine@sha256:{HEX}");
    assert_eq!(Reference::parse(&pinned).unwrap().to_string(), format!("docker.io/library/{pinned}"));
    let both = format!("r.example:5000/a/b:1@sha256:{HEX}");
    assert_eq!(Reference::parse(&both).unwrap().to_string(), both);
}

#[test]
fn what_is_no_reference_is_refused() {
    let long = "a/".repeat(128);
    let (id, tag) = (HEX.to_owned(), format!("a:{}", "t".repeat(129)));
    let (sha512, short) = (format!("a@sha512:{HEX}{HEX}"), "a@sha256:abc".to_owned());
    for written in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "Foo",
        "a.b/Foo",
        "docker/docker/",
        "docker///docker",
        "a:",
        "a:.t",
        "a:-t",
        "_a",
        "a_",
        "a___b",
        "a..b",
        "-foo/bar",
        "foo/bar-",
        "foo-/bar",
        "https://a.b/c",
        "u:p@a.b/c",
        "a b",
        "a.b:x/c",
        "a.b:99999/c",
        "a..b/c",
        "[::1/c",
        "[fe80::1%eth0]/c",
        "a\n",
        "ä",
        long.as_str(),
        id.as_str(),
        tag.as_str(),
        sha512.as_str(),
        short.as_str(),
    ] {
        assert!(Reference::parse(written).is_err(), "{written:?} is {:?}", Reference::parse(written));
    }
}

#[test]
fn registries_are_found_where_they_are() {
    let at = |written: &str| {
        let reference = Reference::parse(written).unwrap();
        (reference.api_host().to_owned(), reference.host().to_owned(), reference.is_loopback())
    };
    let place = |api: &str, host: &str, loopback| (api.to_owned(), host.to_owned(), loopback);
    assert_eq!(at("alpine"), place("registry-1.docker.io", "registry-1.docker.io", false));
    assert_eq!(at("r.example:5000/a"), place("r.example:5000", "r.example", false));
    assert_eq!(at("127.9.9.9:5000/a"), place("127.9.9.9:5000", "127.9.9.9", true));
    assert_eq!(at("[::1]:5000/a"), place("[::1]:5000", "[::1]", true));
    assert_eq!(at("localhost/a"), place("localhost", "localhost", true));
    assert_eq!(
        at("localhost.evil.example/a"),
        place("localhost.evil.example", "localhost.evil.example", false)
    );
}

/// What a name says and what is dialled, shown a password and matched with rules has to be one and the same.
#[test]
fn registries_that_a_url_takes_for_something_else_are_refused() {
    for written in
        ["0x7f.1/a", "127.1/a", "127.1:5000/a", "2130706433:80/a", "300.1.1.1/a", "1.2.3.4.5/a", "xn--.com/a"]
    {
        assert!(Reference::parse(written).is_err(), "{written} is {:?}", Reference::parse(written));
    }
    for written in
        ["127.0.0.1:5000/a", "r.example:443/a", "Registry.Example/a", "[2001:DB8:0::1]:5000/a", "a.b.1x/a"]
    {
        assert!(Reference::parse(written).is_ok(), "{written}");
    }
}

#[test]
fn t091_only_sha256_digests_are_taken() {
    assert_eq!(Digest::parse(&format!("sha256:{HEX}")).unwrap().hex(), HEX);
    let upper = format!("sha256:{}", HEX.to_uppercase());
    let others = [
        format!("sha512:{HEX}{HEX}"),
        format!("md5:{HEX}"),
        HEX.to_owned(),
        format!("sha256:{}", &HEX[1..]),
        upper,
    ];
    for other in others {
        assert!(Digest::parse(&other).is_err(), "{other}");
    }
}

proptest! {
    #[test]
    fn a_name_of_the_grammar_is_read_and_reads_the_same_again(
        registry in "([a-z0-9]{1,8}\\.){1,3}[a-z]{2,5}(:[1-9][0-9]{0,3})?",
        repository in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        let written = format!("{registry}/{repository}:{tag}");
        let read = Reference::parse(&written).unwrap();
        prop_assert_eq!(read.registry(), &registry);
        prop_assert_eq!(read.tag(), Some(tag.as_str()));
        prop_assert_eq!(Reference::parse(&read.to_string()).unwrap(), read);
    }

    #[test]
    fn whatever_is_read_reads_the_same_in_full(written in "[a-zA-Z0-9./:@_\\[\\]-]{0,40}") {
        if let Ok(read) = Reference::parse(&written) {
            prop_assert_eq!(Reference::parse(&read.to_string()).unwrap(), read);
        }
    }
}
