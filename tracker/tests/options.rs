//! What options do, as seen from outside.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;
#[path = "common/process.rs"]
mod process;

use std::time::Duration;

use common::query;
use process::{Process, command};
use rustix::process::Signal;

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
    let refused = one_peer.announce(&OTHER, 2001).await.failure();
    assert_eq!(
        refused,
        "this tracker lists as many peers of one address as it may (--max-peers-per-address)"
    );
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

const REFUSED: &str = "this tracker does not serve this torrent";

#[tokio::test]
async fn a_list_is_served_without_a_registry_and_read_again_on_sighup() {
    let list = file(&format!("# mine\n{}\n", hex::encode(HASH)));
    let mut tracker = Process::start(command().arg("--allow").arg(list.path())).await;
    assert!(is_listed(&tracker.announce(&HASH, 2001).await));
    assert_eq!(tracker.announce(&OTHER, 2001).await.failure(), REFUSED);

    std::fs::write(list.path(), format!("{}\nwrong\n", hex::encode(OTHER))).unwrap();
    tracker.signal(Signal::HUP);
    let said = tracker.until_said("the lists stay as they were").await;
    assert!(said.contains(&format!("{}, line 2: not an infohash", list.path().display())), "{said}");
    assert!(said.contains("ERROR"), "{said}");
    assert_eq!(tracker.announce(&OTHER, 2001).await.failure(), REFUSED);

    std::fs::write(list.path(), hex::encode(OTHER)).unwrap();
    tracker.signal(Signal::HUP);
    tracker.until_said("lists were read again").await;
    assert!(is_listed(&tracker.announce(&OTHER, 2001).await));
    assert_eq!(tracker.announce(&HASH, 2001).await.failure(), REFUSED);
    let metrics = tracker.get("/metrics").await.text();
    for counted in [r#"reloads_total{result="ok"} 1"#, r#"reloads_total{result="error"} 1"#] {
        assert!(metrics.contains(counted), "{counted} in {metrics}");
    }
}

#[tokio::test]
async fn what_is_denied_later_loses_its_peers() {
    let list = file("");
    let mut tracker = Process::start(command().args(["--public", "--deny"]).arg(list.path())).await;
    for port in [2001, 2002] {
        assert!(is_listed(&tracker.announce(&HASH, port).await));
    }
    std::fs::write(list.path(), hex::encode(HASH)).unwrap();
    tracker.signal(Signal::HUP);
    tracker.until_said("lists were read again").await;
    assert_eq!(tracker.announce(&HASH, 2003).await.failure(), REFUSED);
    std::fs::write(list.path(), "").unwrap();
    tracker.signal(Signal::HUP);
    tracker.until_said("lists were read again").await;
    assert_eq!(tracker.announce(&HASH, 2004).await.peers(), Vec::<String>::new());
}

#[tokio::test]
async fn sighup_ends_nothing_where_there_are_no_lists() {
    let mut tracker = Process::start(command().arg("--public")).await;
    tracker.signal(Signal::HUP);
    tracker.until_said("no lists to read again").await;
    assert_eq!(tracker.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_list_that_is_wrong_at_the_start_is_a_refusal() {
    let list = file("\n0123\n");
    let path = list.path().to_str().unwrap();
    for (args, wanted) in [
        (["--public", "--deny", path], format!("error: {path}, line 2: not an infohash")),
        (
            ["--allow", "/nowhere/list", "--udp=off"],
            "error: cannot read the list /nowhere/list: No such".to_owned(),
        ),
        (["--public", "--allow", path], "error: --public serves every torrent, so that --allow".to_owned()),
    ] {
        let output =
            command().args(args).args(["--listen=127.0.0.1:0", "--log=error"]).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(&wanted) && said.lines().count() == 1, "{said}");
    }
}

#[tokio::test]
async fn a_busy_tracker_refuses_in_words_and_says_when_to_come_again() {
    let tracker = Process::start(command().args(["--public", "--busy-above=1"])).await;
    let patience = Duration::from_mins(1);
    let refused = async {
        loop {
            let answer = tracker.announce(&HASH, 2001).await;
            if !answer.failure().is_empty() {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(patience, refused).await.expect("it is too much for it");
    assert_eq!((refused.status, refused.failure().as_str()), (200, "this tracker is busy; try again later"));
    assert_eq!((refused.int("retry in"), refused.int("interval")), (20, 1_200));
    let metrics = tracker.get("/metrics").await.text();
    let refusals = metrics.lines().find(|line| line.contains("reason=\"busy\"")).unwrap();
    assert!(!refusals.ends_with(" 0"), "{metrics}");
}
