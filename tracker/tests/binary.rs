//! The binary: start, stop, errors, traces.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure is the test's failure

mod common;
#[path = "common/process.rs"]
mod process;

use std::time::Duration;

use common::exchange;
use process::{Process, command};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

#[tokio::test]
async fn it_serves_until_sigterm_and_exits_with_0() {
    let mut tracker = Process::start(command().arg("--public")).await;
    assert_eq!(tracker.get("/readyz").await.text(), "ready\n");
    tracker.signal(Signal::TERM);
    let status = tracker.ended().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn udp_is_spoken_on_the_port_of_http_or_elsewhere_or_not() {
    let tracker = Process::start(command().arg("--public")).await;
    assert_eq!(tracker.udp, tracker.address);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0tran", &tracker.udp).await.unwrap();
    let mut answer = [0; 17];
    let received = tokio::time::timeout(Duration::from_secs(10), client.recv(&mut answer)).await.unwrap();
    assert_eq!((received.unwrap(), &answer[..8]), (16, &b"\0\0\0\0tran"[..]));

    let elsewhere = Process::start(command().args(["--public", "--udp=127.0.0.2:0", "--workers=1"])).await;
    assert!(elsewhere.udp.starts_with("127.0.0.2:") && elsewhere.udp != elsewhere.address);
    let without = Process::start(command().args(["--public", "--udp=off"])).await;
    assert_eq!(without.udp, "off");
    UdpSocket::bind(&without.address).await.expect("nobody has the port");
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let taken_udp = udp.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 4] = [
        (&[], "error: nothing could be served"),
        (
            &["--token-file", "/nowhere/token"],
            "error: cannot read the token from /nowhere/token: No such file",
        ),
        (
            &["--public", "--listen", &address],
            &format!("error: cannot listen on {address}: Address already in use"),
        ),
        (
            &["--public", "--listen", "127.0.0.1:0", "--udp", &taken_udp],
            &format!(
                "error: UDP (--udp=off does without it): cannot listen on {taken_udp}: Address already in use"
            ),
        ),
    ];
    for (args, wanted) in cases {
        let output = command().args(args).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(wanted) && said.lines().count() == 1, "{said}");
    }
}

#[tokio::test]
async fn the_token_comes_from_a_file_or_the_environment_and_is_never_shown() {
    const CANARY: &str = "canary-7c1f9e";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{CANARY}\n")).unwrap();
    for by_file in [true, false] {
        let mut command = command();
        if by_file {
            command.arg("--token-file").arg(file.path());
        } else {
            command.env("SAMARA_TRACKER_TOKEN", CANARY);
        }
        let mut tracker = Process::start(command.args(["--log", "trace"])).await;
        let request = format!(
            "GET /v1/registry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CANARY}\r\nconnection: close\r\n\r\n"
        );
        let stream = TcpStream::connect(&tracker.address).await.unwrap();
        assert_eq!(exchange(stream, request.as_bytes()).await.status, 200);
        tracker.signal(Signal::TERM);
        while let Some(line) = tracker.line().await {
            assert!(!line.contains(CANARY), "{line}");
        }
        assert!(tracker.ended().await.success());
    }
}

#[tokio::test]
async fn traces_go_to_the_collector_that_the_environment_names() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut command = command();
    command.env("SAMARA_TRACKER_TOKEN", "t").env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let mut tracker = Process::start(&mut command).await;
    let request = b"PUT /v1/registry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t\r\nconnection: close\r\ncontent-length: 25\r\n\r\n{\"swarms\":[],\"nodes\":[]} ";
    assert_eq!(exchange(TcpStream::connect(&tracker.address).await.unwrap(), request).await.status, 200);
    tracker.signal(Signal::TERM);
    let (mut export, _) =
        tokio::time::timeout(Duration::from_secs(10), collector.accept()).await.unwrap().unwrap();
    let mut seen = Vec::new();
    while !contains(&seen, b"samara-tracker") || !contains(&seen, b"registry") {
        let mut buffer = [0; 4096];
        let read =
            tokio::time::timeout(Duration::from_secs(10), export.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    assert!(seen.starts_with(b"POST /v1/traces HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&seen));
    export.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(tracker.ended().await.success());
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}
