use proptest::prelude::*;

use super::*;

fn whole(head: &str) -> Request<'_> {
    match Parsed::of(head.as_bytes()) {
        Parsed::Whole(request, length) => {
            assert_eq!(length, head.len(), "{head:?}");
            request
        }
        other => panic!("{head:?}: {other:?}"),
    }
}

fn with(version: &str, headers: &str) -> Request<'static> {
    whole(Box::leak(format!("GET /announce?a=b {version}\r\n{headers}\r\n").into_boxed_str()))
}

#[test]
fn announce_and_scrape_lie_at_the_root_or_behind_one_segment() {
    for path in ["/announce", "/passkey/announce", "//announce", "/%61nnounce", "/a%2Fb/announc%65"] {
        assert_eq!(Resource::at(path.as_bytes()), Some(Resource::Announce), "{path}");
    }
    assert_eq!(Resource::at(b"/scrape"), Some(Resource::Scrape));
    assert_eq!(Resource::at(b"/passkey/scrape"), Some(Resource::Scrape));
    for path in [
        "",
        "/",
        "announce",
        "/announce/",
        "/announce.php",
        "/Announce",
        "/a/b/announce",
        "/announces",
        "/%61nnounc%",
        "/xannounce",
    ] {
        assert_eq!(Resource::at(path.as_bytes()), None, "{path}");
    }
}

#[test]
fn the_target_may_be_absolute() {
    for target in [
        "/announce?a=b",
        "http://tracker.example:6969/announce?a=b",
        "HTTP://[::1]/announce?a=b",
        "/x/announce?a=b",
    ] {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        assert_eq!(whole(&head).asked.query, b"a=b", "{target}");
    }
    assert_eq!(whole("GET /scrape HTTP/1.1\r\n\r\n").asked.query, b"");
    for target in ["*", "http://tracker.example", "http://a?/announce", "http://", "tracker.example:443"] {
        assert_eq!(
            Parsed::of(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()),
            Parsed::Foreign,
            "{target}"
        );
    }
}

#[test]
fn connections_stay_as_rfc_9112_says() {
    for (version, headers, expected) in [
        ("HTTP/1.1", "", Persistence::Stay),
        ("HTTP/1.1", "Connection: keep-alive\r\n", Persistence::Stay),
        ("HTTP/1.1", "CONNECTION: Close\r\n", Persistence::Close),
        ("HTTP/1.1", "Connection: foo , close\r\n", Persistence::Close),
        ("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", Persistence::Close),
        ("HTTP/1.1", "Connection: closed\r\n", Persistence::Stay),
        ("HTTP/1.0", "", Persistence::Close),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", Persistence::StayIfSaid),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", Persistence::Close),
    ] {
        assert_eq!(with(version, headers).persistence, expected, "{version} {headers:?}");
    }
}

#[test]
fn the_first_authorization_counts_and_other_headers_do_not() {
    let request =
        with("HTTP/1.1", "Host: a\r\nX-Y: z\r\nX-Y: z\r\nauthorization: Bearer a\r\nAuthorization: b\r\n");
    assert_eq!(request.asked.authorization, Some(&b"Bearer a"[..]));
    assert_eq!(with("HTTP/1.1", "Accept-Encoding: gzip\r\nContent-Length: 0\r\n").asked.authorization, None);
}

#[test]
fn what_needs_more_than_an_answer_is_foreign() {
    for request in [
        "POST /announce HTTP/1.1\r\n\r\n",
        "get /announce HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\n\r\n",
        "GET /announce HTTP/1.1\r\ncontent-length: 1\r\n\r\n",
        "GET /announce HTTP/1.1\r\ncontent-length: 0\r\ncontent-length: 1\r\n\r\n",
        "GET /announce HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET /announce HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "GET /announce HTTP/1.1\r\nexpect: 100-continue\r\n\r\n",
        "GET /announce HTTP/2.0\r\n\r\n",
        "GET /announce\r\n\r\n",
        "GET /announce HTTP/1.1\r\na b: c\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02",
    ] {
        assert_eq!(Parsed::of(request.as_bytes()), Parsed::Foreign, "{request:?}");
    }
    let many = "a: b\r\n".repeat(MAX_REQUEST_HEADERS + 1);
    assert_eq!(Parsed::of(format!("GET /announce HTTP/1.1\r\n{many}\r\n").as_bytes()), Parsed::Foreign);
}

#[test]
fn a_head_ends_only_where_an_empty_line_may_be() {
    for (bytes, seen, expected) in [
        ("a\r\n\r\n", 0, true),
        ("a\r\n\r\n", 4, true),
        ("a\n\n", 2, true),
        ("a\r\n\r", 0, false),
        ("a\r\n\r\nb", 4, true),
        ("a\r\n\r\nb", 5, false),
        ("a\r\n\r\nbb", 7, false),
        ("", 0, false),
    ] {
        assert_eq!(may_end(bytes.as_bytes(), seen), expected, "{bytes:?} {seen}");
    }
}

proptest! {
    #[test]
    fn a_part_of_a_request_is_a_part_and_what_follows_does_not_count(
        token in "(/[a-z0-9%]{1,8})?", query in "[!-~&&[^#?]]{0,40}", name in "[A-Za-z-]{1,12}", value in "[ -~]{0,20}",
        end in prop_oneof!["\r\n", "\n"], more in ".{0,20}",
    ) {
        prop_assume!(!is_foreign(&name, b"1"));
        let head = format!("GET {token}/announce?{query} HTTP/1.1{end}{name}: {value}{end}{end}");
        let request = whole(&head);
        prop_assert_eq!(request.asked.query, query.as_bytes());
        for length in 0..head.len() {
            prop_assert_eq!(Parsed::of(&head.as_bytes()[..length]), Parsed::Part);
            prop_assert!(may_end(head.as_bytes(), length), "the end is seen whatever was seen before");
        }
        let longer = [head.as_bytes(), more.as_bytes()].concat();
        prop_assert_eq!(Parsed::of(&longer), Parsed::Whole(request, head.len()));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        Parsed::of(&bytes);
        Resource::at(&bytes);
        may_end(&bytes, bytes.len() / 2);
    }
}
