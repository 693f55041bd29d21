use std::time::{Duration, Instant, SystemTime};

use operator_api::reason;

use super::server::{After, Reply, Server};
use super::{drain, origin, tagged, whole};
use crate::{OriginError, ReadRange, Validator};

const DAY: &str = "Tue, 01 Jul 2025 10:00:00 GMT";

#[tokio::test]
async fn a_probe_reads_size_and_strong_validators() {
    let server = Server::start(|request| match request.path() {
        "/strong" => Reply::new(
            200,
            &[
                ("Content-Length", "5"),
                ("ETag", "\"v1\""),
                ("Last-Modified", DAY),
                ("Accept-Ranges", "bytes"),
            ],
            b"",
        ),
        "/weak" => Reply::new(200, &[("Content-Length", "7"), ("ETag", "W/\"v1\"")], b""),
        "/signed" if request.method() == "HEAD" => Reply::sized(403, &[], b""),
        "/signed" => Reply::sized(206, &[("Content-Range", "bytes 0-0/12345")], b"x"),
        "/endless" => Reply::new(200, &[], b""),
        _ => Reply::sized(416, &[("Content-Range", "bytes */0")], b""),
    })
    .await;
    let strong = origin().probe(&server.url("/strong")).await.unwrap();
    assert_eq!((strong.size, strong.etag.as_deref(), strong.accepts_ranges), (Some(5), Some("\"v1\""), true));
    assert_eq!(strong.last_modified.as_deref(), Some(DAY));
    let weak = origin().probe(&server.url("/weak")).await.unwrap();
    assert_eq!((weak.size, weak.etag, weak.accepts_ranges), (Some(7), None, false));
    let signed = origin().probe(&server.url("/signed")).await.unwrap();
    assert_eq!((signed.size, signed.accepts_ranges), (Some(12345), true));
    assert_eq!(origin().probe(&server.url("/endless")).await.unwrap().size, None);
    assert_eq!(origin().probe(&server.url("/empty")).await.unwrap().size, Some(0));
}

#[tokio::test]
async fn statuses_have_reasons() {
    for (status, expected, transient) in [
        (404, reason::ORIGIN_NOT_FOUND, false),
        (410, reason::ORIGIN_NOT_FOUND, false),
        (401, reason::ORIGIN_UNAUTHORIZED, false),
        (403, reason::ORIGIN_UNAUTHORIZED, false),
        (400, reason::ORIGIN_UNAVAILABLE, false),
        (500, reason::ORIGIN_UNAVAILABLE, true),
        (503, reason::ORIGIN_UNAVAILABLE, true),
    ] {
        let server = Server::start(move |_| Reply::sized(status, &[], b"")).await;
        for error in [
            origin().probe(&server.url("/")).await.unwrap_err(),
            origin().get_small(&server.url("/"), 1).await.unwrap_err(),
            origin().read(&server.url("/"), whole(1)).await.unwrap_err(),
        ] {
            assert_eq!((error.reason(), error.is_transient()), (expected, transient), "{error}");
            assert!(error.to_string().contains(&status.to_string()), "{error}");
        }
    }
}

#[tokio::test]
async fn t084_a_dropped_connection_is_no_end() {
    let server = Server::start(|_| Reply::new(200, &[("Content-Length", "10")], b"01234")).await;
    let mut body = origin().read(&server.url("/"), whole(10)).await.unwrap();
    assert_eq!(&body.chunk().await.unwrap().unwrap()[..], b"01234");
    let error = body.chunk().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.reason(), reason::ORIGIN_UNAVAILABLE);
}

#[tokio::test]
async fn t084_a_length_that_is_a_lie_is_noticed() {
    // Chunked, so nothing but our own count can tell.
    for (body, got) in [(&b"3\r\nabc\r\n0\r\n\r\n"[..], 3), (b"8\r\nabcdefgh\r\n0\r\n\r\n", 8)] {
        let server = Server::start(move |_| Reply::new(200, &[("Transfer-Encoding", "chunked")], body)).await;
        let error = drain(&origin(), &server.url("/"), whole(5)).await.unwrap_err();
        assert_eq!(error.reason(), reason::ORIGIN_LENGTH_MISMATCH);
        assert!(
            matches!(error, OriginError::Length { expected: 5, got: found, .. } if found == got),
            "{error}"
        );
    }
    for length in ["4", "6", "9223372036854775808"] {
        let server = Server::start(move |_| Reply::new(200, &[("Content-Length", length)], b"abcde")).await;
        let error = drain(&origin(), &server.url("/"), whole(5)).await.unwrap_err();
        assert_eq!(error.reason(), reason::SOURCE_CHANGED, "{length}: {error}");
    }
}

#[tokio::test]
async fn t084_a_body_without_end_is_cut_at_the_declared_size() {
    let endless = || Reply::new(200, &[("Transfer-Encoding", "chunked")], b"").then(After::Flood);
    let server = Server::start(move |_| endless()).await;
    let error = drain(&origin(), &server.url("/"), whole(1 << 20)).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_LENGTH_MISMATCH);
    let error = origin().get_small(&server.url("/"), 1 << 20).await.unwrap_err();
    assert_eq!(error.reason(), reason::INVALID_MANIFEST);
}

#[tokio::test]
async fn t084_a_body_that_drips_has_stalled() {
    let server =
        Server::start(|_| Reply::new(200, &[("Content-Length", "1000000")], b"").then(After::Drip)).await;
    let asked = Instant::now();
    let error = drain(&origin(), &server.url("/"), whole(1_000_000)).await.unwrap_err();
    assert!(matches!(error, OriginError::Stalled { .. }) && error.is_transient(), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn t084_a_reader_that_waits_is_no_stall() {
    let server = Server::start(|_| Reply::sized(200, &[], &vec![7; 300_000])).await;
    let mut body = origin().read(&server.url("/"), whole(300_000)).await.unwrap();
    let mut got = body.chunk().await.unwrap().unwrap().len();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    while let Some(chunk) = body.chunk().await.unwrap() {
        got += chunk.len();
    }
    assert_eq!(got, 300_000);
}

#[tokio::test]
async fn a_read_goes_on_where_it_was() {
    let server = Server::start(|request| {
        assert_eq!(request.header("range"), Some("bytes=4-9"));
        assert_eq!(request.header("if-range"), Some("\"v1\""));
        Reply::sized(206, &[("Content-Range", "bytes 4-9/10"), ("ETag", "\"v1\"")], b"456789")
    })
    .await;
    let mut body = origin().read(&server.url("/"), tagged(4, 10, "\"v1\"")).await.unwrap();
    assert_eq!(body.start(), 4);
    assert_eq!(&body.chunk().await.unwrap().unwrap()[..], b"456789");
    assert!(body.chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn t085_an_origin_that_ignores_ranges_starts_over() {
    let server = Server::start(|_| Reply::sized(200, &[("ETag", "\"v1\"")], b"0123456789")).await;
    let body = origin().read(&server.url("/"), tagged(4, 10, "\"v1\"")).await.unwrap();
    assert_eq!(body.start(), 0);
}

#[tokio::test]
async fn t085_another_range_than_asked_for_is_refused() {
    for range in [
        "bytes 3-8/10",
        "bytes 4-8/10",
        "bytes 4-9",
        "bytes */10",
        "items 4-9/10",
        "bytes 9-4/10",
        "bytes 4-18446744073709551615/*",
    ] {
        let server = Server::start(move |_| {
            Reply::sized(206, &[("Content-Range", range), ("ETag", "\"v1\"")], b"456789")
        })
        .await;
        let error = origin().read(&server.url("/"), tagged(4, 10, "\"v1\"")).await.expect_err(range);
        assert!(matches!(error, OriginError::Answer { .. }), "{range}: {error}");
    }
    // Nobody asked for a part here.
    let server =
        Server::start(|_| Reply::sized(206, &[("Content-Range", "bytes 0-9/10")], b"0123456789")).await;
    assert!(origin().read(&server.url("/"), whole(10)).await.is_err());
}

#[tokio::test]
async fn t085_a_part_of_another_version_is_refused() {
    for (etag, range) in
        [("\"v2\"", "bytes 4-9/10"), ("W/\"v1\"", "bytes 4-9/10"), ("\"v1\"", "bytes 4-10/11")]
    {
        let server =
            Server::start(move |_| Reply::sized(206, &[("Content-Range", range), ("ETag", etag)], b"456789"))
                .await;
        let error = origin().read(&server.url("/"), tagged(4, 10, "\"v1\"")).await.unwrap_err();
        assert_eq!(error.reason(), reason::SOURCE_CHANGED, "{etag} {range}: {error}");
    }
}

#[tokio::test]
async fn t086_a_file_that_changed_is_not_mixed() {
    let server = Server::start(|request| match request.path() {
        "/precondition" => Reply::sized(412, &[], b""),
        "/shorter" => Reply::sized(416, &[("Content-Range", "bytes */3")], b""),
        "/untagged" => Reply::sized(200, &[], b"0123456789"),
        _ => Reply::sized(200, &[("ETag", "\"v2\"")], b"0123456789"),
    })
    .await;
    for path in ["/precondition", "/shorter", "/untagged", "/newer"] {
        for from in [0, 4] {
            let error = origin().read(&server.url(path), tagged(from, 10, "\"v1\"")).await.expect_err(path);
            assert_eq!(error.reason(), reason::SOURCE_CHANGED, "{path}: {error}");
        }
    }
    let first = &server.requests()[0];
    assert_eq!(first.header("if-match"), Some("\"v1\""));
}

#[tokio::test]
async fn t086_without_an_etag_the_date_decides() {
    let dated = |from| ReadRange {
        from,
        until: None,
        validator: Validator { size: 10, etag: None, last_modified: Some(DAY.to_owned()) },
    };
    let server = Server::start(|request| match request.path() {
        "/same" => Reply::sized(200, &[("Last-Modified", DAY)], b"0123456789"),
        "/part" => Reply::sized(206, &[("Content-Range", "bytes 4-9/10")], b"456789"),
        _ => Reply::sized(200, &[("Last-Modified", "Wed, 02 Jul 2025 10:00:00 GMT")], b"0123456789"),
    })
    .await;
    assert_eq!(drain(&origin(), &server.url("/same"), dated(0)).await.unwrap(), b"0123456789");
    assert_eq!(drain(&origin(), &server.url("/part"), dated(4)).await.unwrap(), b"456789");
    let error = origin().read(&server.url("/later"), dated(0)).await.unwrap_err();
    assert_eq!(error.reason(), reason::SOURCE_CHANGED);
    let requests = server.requests();
    assert_eq!(requests[0].header("if-unmodified-since"), Some(DAY));
    assert_eq!(requests[1].header("if-range"), Some(DAY));
}

#[tokio::test]
async fn a_part_is_asked_for_and_taken_as_it_was_asked_for() {
    let server = Server::start(|request| match request.path() {
        "/part" => Reply::sized(206, &[("Content-Range", "bytes 2-5/10"), ("ETag", "\"1\"")], b"2345"),
        "/more" => Reply::sized(206, &[("Content-Range", "bytes 2-9/10"), ("ETag", "\"1\"")], b"23456789"),
        "/short" => Reply::new(206, &[("Content-Range", "bytes 2-5/10"), ("ETag", "\"1\"")], b"23"),
        _ => Reply::sized(200, &[("ETag", "\"1\"")], b"0123456789"),
    })
    .await;
    let part = |from, until| ReadRange { until: Some(until), ..tagged(from, 10, "\"1\"") };
    let body = origin().read(&server.url("/part"), part(2, 6)).await.unwrap();
    assert_eq!((body.start(), body.end()), (2, 6));
    assert_eq!(drain(&origin(), &server.url("/part"), part(2, 6)).await.unwrap(), b"2345");
    assert!(origin().read(&server.url("/more"), part(2, 6)).await.is_err());
    assert!(drain(&origin(), &server.url("/short"), part(2, 6)).await.is_err());
    let whole = origin().read(&server.url("/ignores"), part(0, 6)).await.unwrap();
    assert_eq!((whole.start(), whole.end()), (0, 10));
    drain(&origin(), &server.url("/ignores"), part(0, 10)).await.unwrap();
    let asked: Vec<_> = server.requests().iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(asked[0].as_deref(), Some("bytes=2-5"));
    assert_eq!(asked[4].as_deref(), Some("bytes=0-5"));
    assert_eq!(asked[5], None, "the whole file is asked for as ever");
}

#[tokio::test]
async fn t087_nothing_encoded_is_asked_for_or_taken() {
    let server = Server::start(|request| {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        match request.path() {
            "/identity" => Reply::sized(200, &[("Content-Encoding", "identity")], b"plain"),
            _ => Reply::sized(200, &[("Content-Encoding", "gzip")], b"\x1f\x8b..."),
        }
    })
    .await;
    assert_eq!(&origin().get_small(&server.url("/identity"), 10).await.unwrap()[..], b"plain");
    for error in [
        origin().get_small(&server.url("/"), 10).await.unwrap_err(),
        origin().probe(&server.url("/")).await.unwrap_err(),
        origin().read(&server.url("/"), whole(5)).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("encoded (gzip)"), "{error}");
    }
}

#[tokio::test]
async fn t089_the_origin_says_when_to_come_again() {
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
    for (value, least, most) in [("7".to_owned(), 7, 7), (soon, 80, 90), ("999999999".to_owned(), 3600, 3600)]
    {
        let server = Server::start(move |_| Reply::sized(429, &[("Retry-After", &value)], b"")).await;
        for error in [
            origin().probe(&server.url("/")).await.unwrap_err(),
            origin().read(&server.url("/"), whole(1)).await.unwrap_err(),
        ] {
            let asked = error.retry_after().unwrap().as_secs();
            assert!((least..=most).contains(&asked) && error.is_transient(), "{asked}");
        }
        assert_eq!(server.requests().len(), 2, "a 429 is not asked again in another way");
    }
}
