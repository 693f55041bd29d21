//! Magnet links: those of BEP 9, 52 and 53, as people and clients write them, and those that are refused.

use std::ops::RangeInclusive;

use proptest::prelude::*;
use torrent::{InfoHashV1, InfoHashV2, Magnet, MagnetError};

const V1: &str = "xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

fn v1(magnet: &Magnet) -> String {
    magnet.v1.expect("a v1 infohash").to_string()
}

#[test]
fn bep_9_all_parameters() {
    let link = format!(
        "magnet:?{V1}&dn=Some+name%21&xl=12345&tr=http%3A%2F%2Fa.example%2Fannounce%3Fkey%3D1%2B1&tr=udp://b.example:80\
         &ws=https%3A%2F%2Fc.example%2Ff+g&x.pe=192.0.2.1:6881&x.pe=[2001:db8::1]:6882&x.pe=peer.example:1"
    );
    let magnet: Magnet = link.parse().unwrap();
    assert_eq!(v1(&magnet), "c12fe1c06bba254a9dc9f519b335aa7c1367a88a");
    assert_eq!(magnet.v2, None);
    assert_eq!(magnet.name.as_deref(), Some("Some name!"));
    assert_eq!(magnet.size, Some(12_345));
    assert_eq!(magnet.trackers, ["http://a.example/announce?key=1+1", "udp://b.example:80"]);
    assert_eq!(magnet.web_seeds, ["https://c.example/f+g"]);
    assert_eq!(magnet.peers, ["192.0.2.1:6881", "[2001:db8::1]:6882", "peer.example:1"]);
    assert_eq!(
        magnet.to_string(),
        format!(
            "magnet:?{V1}&dn=Some%20name%21&xl=12345&tr=http%3A%2F%2Fa.example%2Fannounce%3Fkey%3D1%2B1\
             &tr=udp%3A%2F%2Fb.example%3A80&ws=https%3A%2F%2Fc.example%2Ff%2Bg&x.pe=192.0.2.1:6881\
             &x.pe=[2001:db8::1]:6882&x.pe=peer.example:1"
        )
    );
}

#[test]
fn bep_9_base32_is_the_same_hash() {
    // The same 20 bytes in both forms.
    let magnet = Magnet::parse("magnet:?xt=urn:btih:YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK").unwrap();
    assert_eq!(v1(&magnet), "c12fe1c06bba254a9dc9f519b335aa7c1367a88a");
    assert_eq!(Magnet::parse("magnet:?xt=urn:btih:yex6dqdlxisuvhoj6um3gnnkpqjwpkek"), Ok(magnet));
}

#[test]
fn bep_52_hybrid() {
    let v2 = "ca".repeat(32);
    let link = format!("magnet:?{V1}&xt=urn:btmh:1220{v2}&dn=x");
    let magnet = Magnet::parse(&link).unwrap();
    assert_eq!(magnet.v2, Some(InfoHashV2([0xca; 32])));
    assert_eq!(magnet.to_string(), link);
    let alone = Magnet::parse(&format!("magnet:?xt=urn:btmh:1220{}", v2.to_uppercase())).unwrap();
    assert_eq!((alone.v1, alone.v2), (None, magnet.v2));
}

#[test]
fn bep_53_select() {
    let magnet = Magnet::parse(&format!("magnet:?{V1}&so=0,2,4,6-8")).unwrap();
    assert_eq!(magnet.select, [0..=0, 2..=2, 4..=4, 6..=8]);
    assert_eq!(magnet.to_string(), format!("magnet:?{V1}&so=0,2,4,6-8"));
    let descending = Magnet::parse(&format!("magnet:?{V1}&so=9,0-4294967295&so=3")).unwrap();
    assert_eq!(descending.select, [9..=9, 0..=u32::MAX, 3..=3]);
}

#[test]
fn as_people_write_them() {
    let expected = Magnet {
        name: Some("ü".into()),
        trackers: vec!["http://a/".into(), "http://b/".into()],
        ..Magnet::parse(&format!("magnet:?{V1}")).unwrap()
    };
    for link in [
        "MAGNET:?XT=URN:BTIH:C12FE1C06BBA254A9DC9F519B335AA7C1367A88A&DN=%C3%bc&TR=http://a/&Tr=http://b/",
        &format!("magnet:?tr.1=http://a/&tr.2=http://b/&xt.1={}&dn=ü", &V1[3..]),
        &format!("magnet:?{V1}&{V1}&dn=first&dn=ü&tr=&tr=http://a/&tr=http://b/&&kt=a+b%&x.unknown=%zz&mt"),
        &format!(
            "magnet:?xt=urn:sha1:x&xt=&xt=ü&{}&dn=%c3%bc&tr=http://a/&tr=http://b/",
            V1.replace(':', "%3A")
        ),
    ] {
        assert_eq!(Magnet::parse(link).as_ref(), Ok(&expected), "{link}");
    }
}

#[test]
fn what_is_refused_and_why() {
    use MagnetError as E;
    let text = String::from;
    let other = "xt=urn:btih:0000000000000000000000000000000000000000";
    let at = "magnet:?".len() + V1.len();
    let ones = "11".repeat(32);
    let addresses = |key: &str| format!("{V1}{}", format!("&{key}=peer:1").repeat(101));
    let table: Vec<(String, MagnetError)> = vec![
        (text("dn=x"), E::NoTopic),
        (text(""), E::NoTopic),
        (text("xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C"), E::NoTopic),
        (text("xt=urn:btih:abc"), E::V1Hash(text("abc"))),
        (text("xt=urn:btih:"), E::V1Hash(text(""))),
        (format!("xt=urn:btih:{}", "z".repeat(40)), E::V1Hash("z".repeat(40))),
        (format!("xt=urn:btih:{}", "1".repeat(32)), E::V1Hash("1".repeat(32))),
        (format!("xt=urn:btih:{}", "z".repeat(999)), E::V1Hash("z".repeat(100))),
        (text("xt=urn:btmh:1220ab"), E::V2Hash(text("1220ab"))),
        (text("xt=urn:btmh:1"), E::V2Hash(text("1"))),
        (format!("xt=urn:btmh:1221{ones}"), E::V2Hash(format!("1221{ones}"))),
        (format!("xt=urn:btmh:zz20{ones}"), E::V2Hash(format!("zz20{ones}"))),
        (format!("xt=urn:btmh:1114{}", &ones[..40]), E::Multihash(text("sha1"))),
        (format!("xt=urn:btmh:1B20{ones}"), E::Multihash(text("keccak-256"))),
        (format!("xt=urn:btmh:a0e40220{ones}"), E::Multihash(text("blake2b-256"))),
        (format!("xt=urn:btmh:7720{ones}"), E::Multihash(text("an unknown function (0x77)"))),
        (format!("{V1}&{other}"), E::TwoTopics("btih")),
        (format!("xt=urn:btmh:1220{ones}&xt=urn:btmh:1220{}", "22".repeat(32)), E::TwoTopics("btmh")),
        (format!("{V1}&dn=a%2"), E::Escape { key: "dn", at: at + 5 }),
        (format!("{V1}&dn=%%41"), E::Escape { key: "dn", at: at + 4 }),
        (format!("{V1}&tr=%20%+1"), E::Escape { key: "tr", at: at + 7 }),
        (format!("{V1}&ws=%ü"), E::Escape { key: "ws", at: at + 4 }),
        (format!("{V1}&dn=%ff"), E::NotUtf8 { key: "dn", at: at + 4 }),
        (format!("{V1}&dn=a%0ab"), E::Control { key: "dn", at: at + 4 }),
        (format!("{V1}&tr.1=http://a/\n"), E::Control { key: "tr", at: at + 6 }),
        (format!("{V1}&dn=%C2%85"), E::Control { key: "dn", at: at + 4 }),
        (format!("{V1}&xl="), E::Size(text(""))),
        (format!("{V1}&xl=%2B1"), E::Size(text("+1"))),
        (format!("{V1}&xl=18446744073709551616"), E::Size(text("18446744073709551616"))),
        (format!("{V1}&so="), E::Select(text(""))),
        (format!("{V1}&so=1,,2"), E::Select(text(""))),
        (format!("{V1}&so=4-2"), E::Select(text("4-2"))),
        (format!("{V1}&so=1-"), E::Select(text("1-"))),
        (format!("{V1}&so=-1"), E::Select(text("-1"))),
        (format!("{V1}&so=1-2-3"), E::Select(text("1-2-3"))),
        (format!("{V1}&so=4294967296"), E::Select(text("4294967296"))),
        (format!("{V1}&so=0{}", ",0".repeat(1_000)), E::TooMany { key: "so", limit: 1_000 }),
        (addresses("tr"), E::TooMany { key: "tr", limit: 100 }),
        (addresses("ws.7"), E::TooMany { key: "ws", limit: 100 }),
        (addresses("x.pe"), E::TooMany { key: "x.pe", limit: 100 }),
    ];
    for (parameters, error) in table {
        assert_eq!(Magnet::parse(&format!("magnet:?{parameters}")), Err(error), "{parameters}");
    }
    for link in ["", "magnet:", "magnet", "magnet:xt=urn", "http://a/?xt=", "magnetü:?", " magnet:?"] {
        assert_eq!(Magnet::parse(link), Err(E::Scheme), "{link}");
    }
}

#[test]
fn peers_that_are_refused() {
    for peer in [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:+1",
        "host:1:2",
        "::1:80",
        "[::1]",
        "[::1]:0",
        "[::1:80",
        "::1]:80",
        "[host]:80",
        "[192.0.2.1]:80",
        "[fe80::1%25eth0]:80",
        "a b:80",
        "ä:80",
        "a/b:80",
    ] {
        let error = Magnet::parse(&format!("magnet:?{V1}&x.pe={peer}")).unwrap_err();
        assert!(matches!(error, MagnetError::Peer(_)), "{peer}: {error}");
    }
    let long = format!("magnet:?{V1}&x.pe={}:1", "a".repeat(254));
    assert!(Magnet::parse(&long).is_err());
}

#[test]
fn a_link_has_64_kib_also_once_it_is_written() {
    let limit = 64 * 1024;
    let start = format!("magnet:?{V1}&dn=");
    let link = |fill: &str, bytes: usize| start.clone() + &fill.repeat((bytes - start.len()) / fill.len());
    assert!(Magnet::parse(&link("x", limit)).is_ok());
    assert_eq!(Magnet::parse(&link("x", limit + 1)), Err(MagnetError::TooLong { bytes: limit + 1, limit }));
    // Each of these takes three bytes once it is written.
    assert!(matches!(Magnet::parse(&link("!", limit / 2)), Err(MagnetError::TooLong { .. })));
}

#[test]
fn messages_hold_no_passkey() {
    for link in ["tr=http://a/secret%0a", "tr=http://a/secret%zz", "ws=http://secret@a/%ff"] {
        let error = Magnet::parse(&format!("magnet:?{V1}&{link}")).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

/// Text of a value: anything but control characters.
fn value() -> impl Strategy<Value = String> {
    "\\PC{1,20}"
}

fn peer() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9._-]{1,12}:[1-9][0-9]{0,3}", "\\[2001:db8::[0-9a-f]{1,4}\\]:[1-9]"]
}

fn range() -> impl Strategy<Value = RangeInclusive<u32>> {
    (any::<u32>(), any::<u32>()).prop_map(|(a, b)| a.min(b)..=a.max(b))
}

prop_compose! {
    fn magnet()(
        hashes in any::<([u8; 20], [u8; 32])>(),
        sides in 1..4u8,
        name in prop::option::of(value()),
        size in any::<Option<u64>>(),
        trackers in prop::collection::vec(value(), 0..4),
        web_seeds in prop::collection::vec(value(), 0..4),
        peers in prop::collection::vec(peer(), 0..4),
        select in prop::collection::vec(range(), 0..5),
    ) -> Magnet {
        let v1 = (sides & 1 > 0).then_some(InfoHashV1(hashes.0));
        let v2 = (sides & 2 > 0).then_some(InfoHashV2(hashes.1));
        Magnet { v1, v2, name, size, trackers, web_seeds, peers, select }
    }
}

proptest! {
    #[test]
    fn write_parse_is_the_identity(magnet in magnet()) {
        let link = magnet.to_string();
        prop_assert!(link.is_ascii() && !link.contains(['+', ' ', '#']), "{}", link);
        prop_assert_eq!(Magnet::parse(&link), Ok(magnet));
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in "(\\PC|[%&=+.,:-]){0,80}",
        key in "(xt|dn|xl|tr|ws|x\\.pe|so)(\\.1)?",
    ) {
        if let Ok(magnet) = Magnet::parse(&format!("magnet:?{V1}&{key}={text}")) {
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }
    }
}
