//! The tracker as who runs it sees it: its service manager, its log.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;
#[path = "common/process.rs"]
mod process;
#[path = "common/udp.rs"]
mod udp;

use std::time::Duration;

use common::{exchange, query};
use process::{Process, command};
use rustix::process::Signal;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};

struct Manager {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Manager {
    /// One that listens, and starts a tracker.
    async fn start(args: &[&str]) -> (Self, Process) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let tracker = Process::start(command().args(args).env("NOTIFY_SOCKET", &path)).await;
        (Manager { socket, _folder: folder }, tracker)
    }

    async fn heard(&self) -> String {
        let mut buffer = [0; 128];
        let received = tokio::time::timeout(Duration::from_secs(20), self.socket.recv(&mut buffer)).await;
        let length = received.expect("a message").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_manager_hears_when_it_is_ready_reloads_and_stops() {
    let (manager, mut tracker) = Manager::start(&["--public"]).await;
    assert_eq!(manager.heard().await, "READY=1");
    assert_eq!(tracker.get("/readyz").await.status, 200);
    tracker.signal(Signal::HUP);
    assert!(manager.heard().await.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.heard().await, "READY=1");
    tracker.signal(Signal::TERM);
    assert_eq!(manager.heard().await, "STOPPING=1");
    assert!(tracker.ended().await.success());
}

#[tokio::test]
async fn a_reload_that_fails_has_an_end_too() {
    let list = tempfile::NamedTempFile::new().unwrap();
    let (manager, mut tracker) = Manager::start(&["--deny", list.path().to_str().unwrap(), "--public"]).await;
    assert_eq!(manager.heard().await, "READY=1");
    std::fs::write(list.path(), "wrong").unwrap();
    tracker.signal(Signal::HUP);
    assert!(manager.heard().await.starts_with("RELOADING=1"));
    assert_eq!(manager.heard().await, "READY=1");
    tracker.until_said("the lists stay as they were").await;
}

#[tokio::test]
async fn it_is_ready_only_when_a_sibling_has_been_waited_for() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "t").unwrap();
    let token = folder.path().join("token");
    let sibling = format!("--sibling=http://{nobody}");
    let (manager, tracker) = Manager::start(&["--token-file", token.to_str().unwrap(), &sibling]).await;
    assert_eq!(tracker.get("/readyz").await.status, 503);
    assert_eq!(manager.heard().await, "READY=1");
    assert_eq!(tracker.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn one_that_lingers_is_not_ready_and_answers_all_the_same() {
    let mut tracker = Process::start(command().args(["--public", "--linger=600"])).await;
    assert_eq!(tracker.get("/readyz").await.status, 200);
    tracker.signal(Signal::TERM);
    let not_ready = async {
        while tracker.get("/readyz").await.status != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), not_ready).await.expect("it is not ready any more");
    let announce = format!("/announce?{}", query(&[0x42; 20], 2001));
    assert_eq!(tracker.get(&announce).await.int("incomplete"), 1);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0tran", &tracker.udp).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), client.recv(&mut [0; 16])).await;
    assert_eq!(answer.expect("UDP is answered too").unwrap(), 16);
    tracker.signal(Signal::TERM);
    assert_eq!(tracker.ended().await.code(), Some(143), "a second signal ends it at once");
}

#[tokio::test]
async fn one_that_has_lingered_ends_by_itself() {
    let mut tracker = Process::start(command().args(["--public", "--linger=1"])).await;
    tracker.signal(Signal::TERM);
    assert!(tracker.ended().await.success());
}

/// The fields of a line of the access log.
fn fields(line: &str) -> Vec<String> {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let names = ["level", "source", "port", "infohash", "event", "left", "node", "answer"];
    names.map(|name| line[name].to_string()).to_vec()
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_announce_and_no_token() {
    const CANARY: &str = "canary-7c1f9e";
    let mut command = command();
    command
        .args(["--public", "--log", "error,tracker=info,tracker::access=debug"])
        .env("SAMARA_TRACKER_TOKEN", CANARY);
    let mut tracker = Process::start(&mut command).await;
    let infohash = format!("\"{}\"", "42".repeat(20));
    tracker.get(&format!("/announce?{}&event=started", query(&[0x42; 20], 2001))).await;
    let line = tracker.until_said("tracker::access").await;
    let source = r#""127.0.0.1""#;
    let [level, port, left] = [r#""DEBUG""#, "2001", "5"];
    assert_eq!(fields(&line)[..7], [level, source, port, &infohash, r#""started""#, left, "null"]);
    assert!(fields(&line)[7].starts_with(r#""0 peers, "#), "{line}");

    let client =
        udp::Client::of_port(tracker.udp.rsplit(':').next().unwrap().parse().unwrap(), "127.0.0.1").await;
    client.announce(&udp::Announce { left: 0, event: 1, ..udp::Announce::new([0x42; 20], 2002) }).await;
    let line = tracker.until_said("tracker::access").await;
    assert_eq!(fields(&line)[..7], [level, source, "2002", &infohash, r#""completed""#, "0", "null"]);
    assert!(fields(&line)[7].starts_with(r#""1 peers, "#), "{line}");

    let stream = TcpStream::connect(&tracker.address).await.unwrap();
    let request = format!(
        "GET /announce?{}&node=a%0Ab HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CANARY}\r\nconnection: close\r\n\r\n",
        query(&[0x42; 20], 2001)
    );
    exchange(stream, request.as_bytes()).await;
    let line = tracker.until_said("tracker::access").await;
    assert_eq!(fields(&line)[6..], [r#""a\nb""#, r#""this tracker does not know this node""#]);
    assert!(!line.contains(CANARY));
}

#[tokio::test]
async fn there_is_no_access_log_unless_it_is_asked_for() {
    let mut tracker = Process::start(command().arg("--public")).await;
    tracker.get(&format!("/announce?{}", query(&[0x42; 20], 2001))).await;
    tracker.signal(Signal::TERM);
    while let Some(line) = tracker.line().await {
        assert!(!line.contains("access") && !line.contains(&"42".repeat(20)), "{line}");
    }
}

#[tokio::test]
async fn a_manager_that_is_not_there_changes_nothing() {
    let mut tracker = Process::start(command().arg("--public").env("NOTIFY_SOCKET", "/nowhere/notify")).await;
    assert_eq!(tracker.get("/readyz").await.status, 200);
    tracker.signal(Signal::TERM);
    assert!(tracker.ended().await.success());
}
