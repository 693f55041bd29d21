//! The binary: start, stop, errors, traces.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure is the test's failure

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::exchange;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara-tracker"));
    command.env_clear().stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it on a free port; answers the address, and its further lines of log.
async fn start(
    command: &mut Command,
) -> (Child, String, tokio::io::Lines<BufReader<tokio::process::ChildStderr>>) {
    let mut child = command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().unwrap();
        let event: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        if event["message"] == "listening" {
            return (child, event["address"].as_str().unwrap().to_owned(), lines);
        }
    }
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[tokio::test]
async fn it_serves_until_sigterm_and_exits_with_0() {
    let (mut child, address, _lines) = start(command().arg("--public")).await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(stream, request).await.text(), "ready\n");
    terminate(&child);
    let status = tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

/// The address of UDP that the first line of the log names.
async fn udp_of(args: &[&str]) -> (Child, String, String) {
    let mut command = command();
    command.arg("--public").args(args).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let event: serde_json::Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let text = |key: &str| event[key].as_str().unwrap().to_owned();
    (child, text("address"), text("udp"))
}

#[tokio::test]
async fn udp_is_spoken_on_the_port_of_http_or_elsewhere_or_not() {
    let (_child, http, udp) = udp_of(&[]).await;
    assert_eq!(udp, http);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0tran", &udp).await.unwrap();
    let mut answer = [0; 17];
    let received = tokio::time::timeout(Duration::from_secs(10), client.recv(&mut answer)).await.unwrap();
    assert_eq!((received.unwrap(), &answer[..8]), (16, &b"\0\0\0\0tran"[..]));

    let (_child, http, udp) = udp_of(&["--udp", "127.0.0.2:0", "--workers", "1"]).await;
    assert!(udp.starts_with("127.0.0.2:") && udp != http, "{udp}");
    let (_child, http, udp) = udp_of(&["--udp=off"]).await;
    assert_eq!(udp, "off");
    UdpSocket::bind(http).await.expect("nobody has the port");
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
        let (mut child, address, mut lines) = start(command.args(["--log", "trace"])).await;
        let request = format!(
            "GET /v1/registry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CANARY}\r\nconnection: close\r\n\r\n"
        );
        let stream = TcpStream::connect(&address).await.unwrap();
        assert_eq!(exchange(stream, request.as_bytes()).await.status, 200);
        terminate(&child);
        while let Some(line) = lines.next_line().await.unwrap() {
            assert!(!line.contains(CANARY), "{line}");
        }
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn traces_go_to_the_collector_that_the_environment_names() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut command = command();
    command.env("SAMARA_TRACKER_TOKEN", "t").env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let (mut child, address, _lines) = start(&mut command).await;
    let request = b"PUT /v1/registry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t\r\nconnection: close\r\ncontent-length: 25\r\n\r\n{\"swarms\":[],\"nodes\":[]} ";
    assert_eq!(exchange(TcpStream::connect(&address).await.unwrap(), request).await.status, 200);
    terminate(&child);
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
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}
