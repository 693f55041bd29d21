//! Peers that change their mind all the time (T38). In a binary of its own: it measures processor time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::scripted::Connection;
use common::{TestTorrent, below, engine, seed};
use swarm::wire::Message;
use swarm::{Assume, Engine};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use torrent::Version;

/// Messages per second.
const RATE: usize = 100_000;
/// Messages that come at a time.
const BATCH: usize = 100;
/// Other peers.
const CROWD: u8 = 60;
/// Of one processor.
const SHARE: f64 = if cfg!(debug_assertions) { 0.25 } else { 0.05 };

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().enable_all().worker_threads(2).thread_name(name).build().unwrap()
}

/// Seconds of processor time that the threads of this name have used.
fn used(name: &str) -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named = tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == name);
    let nanoseconds = named.map(|task| {
        let times = fs::read_to_string(task.join("schedstat")).unwrap();
        times.split(' ').next().unwrap().parse::<f64>().unwrap()
    });
    nanoseconds.sum::<f64>() / 1e9
}

/// Others that want something, and are there.
async fn crowd(engine: &Engine, torrent: &TestTorrent) {
    for id in 0..CROWD {
        let mut peer = Connection::dial(engine.addresses()[0], &torrent.metainfo, id).await;
        peer.send(Message::Bitfield(&[0xff])).await;
        peer.send(Message::Interested).await;
        tokio::spawn(async move { while peer.next(|_| ()).await.is_some() {} });
    }
}

/// Says this and that for a second; answers which share of a processor the engine needs meanwhile.
async fn toggles(mut peer: Connection, this: Message<'_>, that: Message<'_>) -> f64 {
    let mut batch = Vec::new();
    for _ in 0..BATCH / 2 {
        this.encode(&mut batch);
        that.encode(&mut batch);
    }
    let (before, started) = (used("engine"), Instant::now());
    for count in 0..RATE / BATCH {
        assert!(peer.send_raw(&batch).await, "it is cut off");
        let due = started + Duration::from_secs(1) * (count * BATCH) as u32 / RATE as u32;
        tokio::time::sleep_until(due.into()).await;
    }
    (used("engine") - before) / started.elapsed().as_secs_f64()
}

#[test]
fn t038_who_changes_its_mind_all_the_time_costs_little() {
    let (engines, ours) = (runtime("engine"), runtime("ours"));
    let torrent = TestTorrent::new(Version::Hybrid, 64 * 1024, &[("data", 8 * 64 * 1024)]);
    let folder = tempfile::tempdir().unwrap();
    let from = engines.block_on(engine());
    engines.block_on(seed(&from, &torrent, &below(&folder, "seed")));
    let share = ours.block_on(async {
        crowd(&from, &torrent).await;
        let peer = Connection::dial(from.addresses()[0], &torrent.metainfo, 200).await;
        toggles(peer, Message::Interested, Message::NotInterested).await
    });
    assert!(share < SHARE, "interested or not: {share}");
    for (this, that) in [(Message::Unchoke, Message::Choke), (Message::Choke, Message::Unchoke)] {
        let listener = ours.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (to, peers) = (engines.block_on(engine()), vec![listener.local_addr().unwrap()]);
        let there = below(&folder, &format!("{this:?}"));
        engines.block_on(to.add(torrent.spec(&there, Assume::Journal, peers))).unwrap();
        let share = ours.block_on(async {
            crowd(&to, &torrent).await;
            let mut peer = Connection::accept_without_fast(&listener, &torrent.metainfo, 200).await;
            peer.send(Message::Bitfield(&[0xff])).await;
            toggles(peer, this, that).await
        });
        assert!(share < SHARE, "{this:?} and {that:?}: {share}");
    }
}
