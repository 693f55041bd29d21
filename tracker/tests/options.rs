//! What options do, as seen from outside.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;
#[path = "common/process.rs"]
mod process;

use common::query;
use process::{Process, command};

const HASH: [u8; 20] = [0x42; 20];
const OTHER: [u8; 20] = [0x43; 20];

impl Process {
    async fn announce(&self, hash: &[u8; 20], port: u16) -> common::Answer {
        self.get(&format!("/announce?{}", query(hash, port))).await
    }
}

fn is_listed(answer: &common::Answer) -> bool {
    answer.bencode().get("warning message").is_none()
}

#[tokio::test]
async fn room_is_what_the_options_say() {
    let one_peer = Process::start(command().args(["--public", "--max-peers-per-address=1"])).await;
    assert!(is_listed(&one_peer.announce(&HASH, 2001).await));
    assert!(!is_listed(&one_peer.announce(&HASH, 2002).await));
    let one_torrent = Process::start(command().args(["--public", "--max-torrents=1"])).await;
    assert!(is_listed(&one_torrent.announce(&HASH, 2001).await));
    let refused = one_torrent.announce(&OTHER, 2001).await.failure();
    assert_eq!(refused, "this tracker has no room for another torrent");
}

/// A file with this text.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn the_command_line_counts_before_the_environment_and_that_before_the_file() {
    let config = file("public = true\nmax-torrents = 1\nmax-peers = 1\nmax-peers-per-torrent = 7\n");
    let mut command = command();
    command.env("SAMARA_TRACKER_CONFIG", config.path()).env("SAMARA_TRACKER_MAX_TORRENTS", "2");
    command.env("SAMARA_TRACKER_MAX_PEERS", "1").arg("--max-peers=2");
    let tracker = Process::start(&mut command).await;
    let (one, two) = (tracker.announce(&HASH, 2001).await, tracker.announce(&OTHER, 2001).await);
    assert!(is_listed(&one) && is_listed(&two), "two torrents, two peers");
    assert!(!is_listed(&tracker.announce(&OTHER, 2002).await), "and no third one");
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_one_line_that_names_it() {
    for (text, wanted) in [
        ("pubic = true", "line 1: `pubic` is no option"),
        (
            "public = true\nmax-peers = 0",
            "line 2: `max-peers`: invalid value '0' for '--max-peers <N>': 0 is not in 1..=4294967295",
        ),
        ("token = 'canary'", "line 1: `token`: a token has a file of its own; name that as `token-file`"),
    ] {
        let config = file(text);
        let output = command().arg("--config").arg(config.path()).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said, format!("error: {}, {wanted}\n", config.path().display()));
    }
    let output = command().arg("--config=/nowhere/file").output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("error: cannot read the configuration from /nowhere/file: No such file"),
        "{said}"
    );
}
