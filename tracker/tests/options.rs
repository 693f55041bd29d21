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
