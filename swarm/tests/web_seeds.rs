//! Web seeds (BEP 19): whole downloads from an HTTP server, alone and beside peers, and what its faults do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;
#[path = "common/web_server.rs"]
mod web_server;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, TestTorrent, below, complete, config, engine, has_ipv6, seed};
use swarm::web_seed::failure::LONG_PAUSE;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, Selection, Stats, TorrentHandle, WebSeedStatus};
use torrent::Version;
use web_server::{Fault, WebServer};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Long enough that runs hold several pieces, and with an end inside a block.
fn one_file() -> TestTorrent {
    TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("one file.bin", 3 * MIB + 7)])
}

fn leech(torrent: &TestTorrent, folder: &Path, web_seeds: &[String]) -> AddTorrent {
    AddTorrent {
        web_seeds: web_seeds.to_vec(),
        journal: Some(folder.join("journal")),
        ..torrent.spec(&folder.join("leech"), Assume::Journal, Vec::new())
    }
}

/// Waits until the first web seed has said what is wrong with it.
async fn failed(handle: &TorrentHandle) -> WebSeedStatus {
    failed_for(handle, "", PATIENCE).await
}

/// The same, for a certain reason.
async fn failed_for(handle: &TorrentHandle, reason: &str, time: Duration) -> WebSeedStatus {
    let mut stats = handle.changed();
    let says = |seed: &WebSeedStatus| seed.error.as_ref().is_some_and(|error| error.contains(reason));
    let waited = stats.wait_for(|stats| stats.web_seeds.first().is_some_and(says));
    let waited = tokio::time::timeout(time, waited).await;
    waited.expect("no failure shows").unwrap().web_seeds[0].clone()
}

/// Downloads from the server only; each byte has to come once.
async fn alone(torrent: &TestTorrent, server: &WebServer) -> Stats {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine().await;
    let handle = engine.add(leech(torrent, folder.path(), &[server.url()])).await.unwrap();
    complete(&handle).await;
    torrent.check(&below(&folder, "leech"));
    let stats = handle.stats();
    engine.shutdown().await;
    stats
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_whole_from_a_web_seed_in_few_requests() {
    for version in [Version::Hybrid, Version::V2, Version::V1] {
        let torrent = TestTorrent::new(version, 64 * KIB as u64, &[("one file.bin", 20 * MIB + 7)]);
        let server = WebServer::start(&torrent).await;
        let stats = alone(&torrent, &server).await;
        assert_eq!((stats.downloaded, stats.wasted), (stats.total, 0));
        assert_eq!((stats.web_seeds[0].downloaded, stats.web_seeds[0].error.as_deref()), (stats.total, None));
        assert_eq!((stats.peers, stats.seeds), (0, 0));
        // The first piece alone, then runs of 4 MiB and more.
        let requests = server.seen().len();
        assert!((2..=10).contains(&requests), "{requests} requests for 321 pieces");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_whole_and_neither_padding_nor_empty_files_are_asked_for() {
    let files = [
        ("a/empty", 0),
        ("a/one byte", 1),
        ("b/100% ünïcode?#", 40 * KIB + 3),
        ("b/deep/er/file", 500 * KIB),
        ("c", 64 * KIB),
        ("d", 3 * 64 * KIB + 1),
        ("e/none", 0),
    ];
    for version in [Version::Hybrid, Version::V2, Version::V1] {
        let torrent = TestTorrent::new(version, 64 * KIB as u64, &files);
        let server = WebServer::start(&torrent).await;
        let stats = alone(&torrent, &server).await;
        assert_eq!((stats.downloaded, stats.wasted), (stats.total, 0), "{version:?}");
        let empty = |path: &str| path.ends_with("empty") || path.ends_with("none") || path.contains(".pad");
        assert!(server.seen().iter().all(|seen| !empty(&seen.path)), "{:?}", server.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_selection_no_more_is_asked_for() {
    let torrent =
        TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("a", 2 * MIB), ("b", MIB + 1), ("c", 2 * MIB)]);
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await;
    let engine = engine().await;
    let selection = Selection { files: [1].into(), parts: below(&folder, "parts") };
    let handle =
        engine.add_selected(leech(&torrent, folder.path(), &[server.url()]), &selection).await.unwrap();
    complete(&handle).await;
    assert_eq!(handle.stats().downloaded, MIB as u64 + 1);
    assert!(server.seen().iter().all(|seen| seen.path.ends_with("/b")), "{:?}", server.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_one_piece_is_enough() {
    let torrent = one_file();
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await;
    let engine = Engine::start(EngineConfig { buffer_budget: 64 * KIB as u64, ..config() }).await.unwrap();
    let handle = engine.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    complete(&handle).await;
    torrent.check(&below(&folder, "leech"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_and_a_web_seed_share_the_work() {
    let torrent = TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("data", 24 * MIB)]);
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await;
    let from = Engine::start(EngineConfig { upload_limit: Some(8 << 20), ..config() }).await.unwrap();
    let source = seed(&from, &torrent, &below(&folder, "seed")).await;
    // The limit counts for both together.
    let limit = Some(12 << 20);
    let to = Engine::start(EngineConfig { download_limit: limit, ..config() }).await.unwrap();
    let mut spec = leech(&torrent, folder.path(), &[server.url()]);
    spec.peers = from.addresses().to_vec();
    let started = Instant::now();
    let handle = to.add(spec).await.unwrap();
    complete(&handle).await;
    assert!(
        started.elapsed() > Duration::from_millis(1800),
        "the limit does not hold: {:?}",
        started.elapsed()
    );
    torrent.check(&below(&folder, "leech"));
    let stats = handle.stats();
    let (web, peer) = (stats.web_seeds[0].downloaded, source.stats().uploaded);
    assert!(web > 0 && peer > 0, "{web} bytes from the web seed, {peer} from the peer");
    assert!(stats.downloaded - stats.wasted == stats.total, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t040_nobody_waits_for_a_web_seed_that_hangs() {
    let torrent = one_file();
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await.always(Fault::Hangs(20 * KIB));
    let (from, to) = (engine().await, engine().await);
    let handle = to.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    while server.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    seed(&from, &torrent, &below(&folder, "seed")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
    assert_eq!(handle.stats().web_seeds[0].error, None, "it was waited for until it was given up");
    torrent.check(&below(&folder, "leech"));
    // The request that hangs does not hold the end up either.
    tokio::time::timeout(Duration::from_secs(10), to.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_range_is_used_for_what_is_near_the_start() {
    let torrent = one_file();
    let server = WebServer::start(&torrent).await.always(Fault::IgnoresRange);
    let stats = alone(&torrent, &server).await;
    assert_eq!(stats.downloaded - stats.wasted, stats.total);
}

#[tokio::test(flavor = "multi_thread")]
async fn t031_a_liar_costs_one_piece_is_named_and_never_asked_again() {
    let torrent = one_file();
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await.always(Fault::Lies);
    let (from, to) = (engine().await, engine().await);
    let handle = to.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    let status = failed(&handle).await;
    assert!(status.error.as_deref().unwrap().contains("other bytes"), "{status:?}");
    assert_eq!(status.retry_in, None);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
    torrent.check(&below(&folder, "leech"));
    assert_eq!(server.seen().len(), 1);
    assert!(handle.stats().wasted <= 64 * KIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_that_is_found_out_while_it_has_nothing_to_do_is_named() {
    let torrent = TestTorrent::new(Version::V2, MIB as u64, &[("a", MIB), ("b", MIB)]);
    let folder = tempfile::tempdir().unwrap();
    let server =
        WebServer::start(&torrent).await.next(&[Fault::LiesAndDies(300_000)]).always(Fault::Hangs(0));
    let to = engine().await;
    let handle = to.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    failed_for(&handle, "too early", PATIENCE).await;
    // A peer completes what it has begun, in vain, and then fetches all of it: that takes until the web seed is back, and waits for the
    // other file, which only it has.
    let from = Engine::start(EngineConfig { upload_limit: Some(300 << 10), ..config() }).await.unwrap();
    let (begun, there) = (usize::from(server.seen()[0].path.ends_with("/b")), below(&folder, "seed"));
    torrent.write(&there);
    std::fs::remove_file(there.join(["b", "a"][begun])).unwrap();
    let selection = Selection { files: [begun].into(), parts: below(&folder, "parts") };
    let spec = torrent.spec(&there, Assume::Complete, to.addresses().to_vec());
    from.add_selected(spec, &selection).await.unwrap();
    failed_for(&handle, "other bytes", Duration::from_secs(15)).await;
    assert_eq!(handle.stats().have, MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_web_seeds_the_first_are_used_and_listed() {
    let torrent = one_file();
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await;
    let mut urls = vec![server.url()];
    urls.extend((0..10_000).map(|number| format!("http://127.0.0.1:1/{number}")));
    let engine = engine().await;
    let handle = engine.add(leech(&torrent, folder.path(), &urls)).await.unwrap();
    complete(&handle).await;
    assert_eq!(handle.stats().web_seeds.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_useless_answer_has_a_reason_and_a_long_pause() {
    let torrent = one_file();
    for (fault, reason) in [
        (Fault::Status(404), "404"),
        (Fault::Status(403), "403"),
        (Fault::Status(416), "416"),
        (Fault::NextRange, "Content-Range"),
        (Fault::Redirect("/files/one%20file.bin"), "redirects"),
        (Fault::Redirect("ftp://127.0.0.1/"), "another scheme"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = WebServer::start(&torrent).await.always(fault);
        let engine = engine().await;
        let handle = engine.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
        let status = failed(&handle).await;
        assert!(status.error.as_deref().unwrap().contains(reason), "{fault:?}: {status:?}");
        assert!(status.retry_in.unwrap() >= LONG_PAUSE / 2, "{fault:?}: {status:?}");
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_again_when_it_says() {
    let torrent = one_file();
    let server = WebServer::start(&torrent).await.next(&[Fault::Busy("1")]);
    let started = Instant::now();
    let stats = alone(&torrent, &server).await;
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!((stats.downloaded, stats.web_seeds[0].error.as_deref()), (stats.total, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_sent_before_it_died_is_kept() {
    let torrent = TestTorrent::new(Version::Hybrid, MIB as u64, &[("data", 5 * MIB)]);
    let dies = Fault::Dies(300_000);
    let server = WebServer::start(&torrent).await.next(&[dies, dies]);
    let stats = alone(&torrent, &server).await;
    // Of each answer that broke off, less than a block.
    assert!(stats.wasted <= 2 * 16 * KIB as u64, "{stats:?}");
    assert_eq!(stats.web_seeds[0].error, None);
    let first = server.seen()[0].range.0;
    assert!(
        server.seen().iter().any(|seen| seen.range.0 == first + 300_000 / 16384 * 16384),
        "{:?}",
        server.seen()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_an_end_fetches_only_the_rest() {
    let torrent =
        TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("a", 5 * MIB + 11), ("b/c", 3 * MIB)]);
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await;
    let limited = EngineConfig { download_limit: Some(4 << 20), ..config() };
    let first = Engine::start(limited).await.unwrap();
    let handle = first.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    let mut stats = handle.changed();
    stats.wait_for(|stats| stats.have > MIB as u64).await.unwrap();
    first.shutdown().await;
    let had = handle.stats().have;
    assert!(had < handle.stats().total, "it was too fast to be interrupted");
    let again = engine().await;
    let handle = again.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    complete(&handle).await;
    torrent.check(&below(&folder, "leech"));
    assert_eq!(handle.stats().downloaded, handle.stats().total - had);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_and_credentials_are_sent_but_not_shown() {
    let torrent = one_file();
    let server = WebServer::start(&torrent).await;
    let name = torrent.metainfo.name().replace(' ', "%20");
    let to: &'static str = format!("/files/{name}").leak();
    let server = server.next(&[Fault::Redirect(to)]);
    let folder = tempfile::tempdir().unwrap();
    let engine = engine().await;
    let url = server.url().replace("http://", "http://me:secret@");
    let handle = engine.add(leech(&torrent, folder.path(), &[url])).await.unwrap();
    complete(&handle).await;
    assert!(server.seen().iter().all(|seen| seen.authorization.as_deref() == Some("Basic bWU6c2VjcmV0")));
    assert_eq!(handle.stats().web_seeds[0].url, server.url());
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_works_too() {
    if !has_ipv6("ipv6_works_too") {
        return;
    }
    let torrent = one_file();
    let server = WebServer::start_on(&torrent, "[::1]:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listen = vec!["[::1]:0".parse().unwrap()];
    let engine = Engine::start(EngineConfig { listen, ..config() }).await.unwrap();
    let handle = engine.add(leech(&torrent, folder.path(), &[server.url()])).await.unwrap();
    complete(&handle).await;
    torrent.check(&below(&folder, "leech"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_web_seed_says_so_and_harms_nobody() {
    let torrent = one_file();
    let folder = tempfile::tempdir().unwrap();
    let server = WebServer::start(&torrent).await;
    let urls = ["ftp://h/x".into(), "nonsense".into(), "http://127.0.0.1:1/".into(), server.url()];
    let engine = engine().await;
    let handle = engine.add(leech(&torrent, folder.path(), &urls)).await.unwrap();
    let mut stats = handle.changed();
    let wrong = |stats: &Stats| stats.web_seeds.iter().filter(|seed| seed.error.is_some()).count() == 3;
    let stats = tokio::time::timeout(PATIENCE, stats.wait_for(wrong)).await.unwrap().unwrap().clone();
    let error = |index: usize| stats.web_seeds[index].error.clone().unwrap();
    assert!(error(0).contains("http://") && error(1).contains("http://") && error(2).contains("refused"));
    complete(&handle).await;
}
