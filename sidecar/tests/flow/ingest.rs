//! Content that is shared while it is read.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use operator_api::{Verdict, reason};
use serde_json::json;
use swarm::{Engine, EngineConfig, Fetcher, GrowTorrent};
use torrent::ingest::{Outline, SigningKey, Warrant};

use crate::cluster::{Cluster, eventually, outline_of, same};

const FILES: &[(&str, &str)] =
    &[("data/a.bin", "a-9000000"), ("ü b.bin", "b-100"), ("leer", "c-0"), ("z", "d-1048576")];
const BYTES: u64 = 9_000_100 + 1_048_576;

#[tokio::test(flavor = "multi_thread")]
async fn all_have_it_when_the_origin_has_been_read_once() {
    let mut cluster = Cluster::start().await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await, cluster.sidecar("c").await];
    cluster.growing("set-1", "set", FILES, &["a"], 0).await;
    cluster.build("set-1").await;
    for (node, unit) in ["a", "b", "c"].iter().zip(&units) {
        cluster.ready(node, "set-1").await;
        assert!(same(&unit.link("set"), FILES));
        let left = std::fs::read_dir(unit.root.join("store/set-1")).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(!left.iter().any(|name| name.starts_with("journal") || name == "outline"), "{left:?}");
    }
    assert_eq!(cluster.origin_bytes(), BYTES);
    // A newcomer joins the torrent as it is known by then.
    let late = cluster.sidecar("late").await;
    cluster.ready("late", "set-1").await;
    assert!(same(&late.link("set"), FILES));
    assert_eq!(cluster.origin_bytes(), BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_have_what_was_read_while_the_rest_is_being_read() {
    let mut cluster = Cluster::start().await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await];
    cluster.growing("set-1", "set", &[("big", "slow-12000000")], &["a"], 0).await;
    eventually("b has most of what a has read, and a reads on", || async {
        let written = swarm::written(&units[1].root.join("incoming/set-1/data/big")).ok()?;
        let read = cluster.origin_bytes();
        (written > 4_000_000 && written > read / 2 && read < 12_000_000).then_some(())
    })
    .await;
    cluster.build("set-1").await;
    cluster.ready("b", "set-1").await;
    assert_eq!(cluster.origin_bytes(), 12_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_fetchers_read_it_once_between_them() {
    let mut cluster = Cluster::start().await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await, cluster.sidecar("c").await];
    let files = &[("one", "a-70000000"), ("two", "b-70000000")];
    cluster.growing("set-1", "set", files, &["b", "a"], 0).await;
    cluster.build("set-1").await;
    for (node, unit) in ["a", "b", "c"].iter().zip(&units) {
        cluster.ready(node, "set-1").await;
        assert!(same(&unit.link("set"), files));
    }
    let (read, [a, b]) =
        (cluster.origin_bytes(), [cluster.entry("a", "set-1").await, cluster.entry("b", "set-1").await]);
    // Both may begin the last stripe at once; then one gives way, and what was on its way to it is lost.
    assert!(read <= 140_000_000 + (24 << 20), "{read}");
    assert!(a.unwrap().origin_bytes > 0 && b.unwrap().origin_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_gives_no_parts_is_read_once_by_the_first_of_its_fetchers() {
    let mut cluster = Cluster::start().await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await];
    let files = &[("one", "whole-140000000")];
    cluster.growing("set-1", "set", files, &["a", "b"], 0).await;
    cluster.build("set-1").await;
    for (node, unit) in ["a", "b"].iter().zip(&units) {
        cluster.ready(node, "set-1").await;
        assert!(same(&unit.link("set"), files));
    }
    assert!(cluster.entry("a", "set-1").await.unwrap().origin_bytes <= 141_000_000);
    // The other has asked once, and seen that it gets all of it.
    assert!(cluster.origin_bytes() <= 141_000_000 + (24 << 20), "{}", cluster.origin_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_origin_that_gives_no_parts_are_read_once_each_however_many_readers_there_are() {
    let mut cluster = Cluster::start().await;
    let unit = cluster.sidecar("a").await;
    let files = &[("one", "whole-90000000"), ("two", "whole-3000000"), ("three", "whole-80000000")];
    cluster.growing("set-1", "set", files, &["a"], 0).await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    assert!(same(&unit.link("set"), files));
    assert!(cluster.origin_bytes() <= 174_000_000, "{}", cluster.origin_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nodes_have_from_another_revision_is_neither_read_nor_transferred_again() {
    let mut cluster = Cluster::start().await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await];
    let files = &[("declared/a", "a-9000000"), ("declared/c", "c-3000000")];
    cluster.growing("one-1", "one", files, &["a"], 0).await;
    cluster.build("one-1").await;
    cluster.ready("b", "one-1").await;
    cluster.ready("a", "one-1").await;
    let files = &[("declared/moved", "a-9000000"), ("new", "d-500")];
    cluster.growing("two-1", "two", files, &["a"], 0).await;
    cluster.build("two-1").await;
    let of_b = cluster.ready("b", "two-1").await;
    cluster.ready("a", "two-1").await;
    assert!(units.iter().all(|unit| same(&unit.link("two"), files)));
    assert_eq!((cluster.origin_bytes(), of_b.peer_bytes), (12_000_500, 500));
    let inode = |path: &str| std::fs::metadata(units[1].link(path)).unwrap().ino();
    assert_eq!(inode("one/declared/a"), inode("two/declared/moved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fetcher_goes_on_where_one_has_died() {
    let mut cluster = Cluster::start().await;
    let dying = cluster.sidecar("a").await;
    let heir = cluster.sidecar("b").await;
    let witness = cluster.sidecar("c").await;
    let files = &[("big", "slow-12000000")];
    cluster.growing("set-1", "set", files, &["a"], 0).await;
    eventually("half is read", || async { (cluster.origin_bytes() > 6_000_000).then_some(()) }).await;
    dying.stop().await;
    let grant = cluster.operator.script.lock().unwrap().grants[&("set-1".into(), "a".into())].clone();
    cluster.grant("set-1", &grant, &["b"]);
    cluster.patch("set-1", json!({ "policy": { "fetchers": ["b"] } })).await;
    cluster.build("set-1").await;
    for (node, unit) in [("b", &heir), ("c", &witness)] {
        cluster.ready(node, "set-1").await;
        assert!(same(&unit.link("set"), files));
    }
    // What was on its way when the fetcher died is read again; what others held is not.
    assert!(cluster.origin_bytes() < 12_000_000 + 3_500_000, "{}", cluster.origin_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_digest_that_differs_is_reported_and_nothing_is_published() {
    let mut cluster = Cluster::start().await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await];
    cluster.growing("set-1", "set", &[("wrong", "a-2000000")], &["a"], 0).await;
    let failed = eventually("the fetcher says so", || async {
        let script = cluster.operator.script.lock().unwrap();
        script.failed.iter().find(|(_, failed)| failed.reason == reason::DIGEST_MISMATCH).cloned()
    })
    .await;
    assert!(failed.1.message.contains("wrong"), "{}", failed.1.message);
    assert!(units.iter().all(|unit| !unit.link("set").exists()));
    // The operator begins anew: all drop what they have, and get other bytes under another name.
    let files = &[("x", "b-2000000")];
    let before = cluster.origin_bytes();
    cluster.begin_anew("set-1", files, &["b"], 1).await;
    cluster.build("set-1").await;
    for (node, unit) in ["a", "b"].iter().zip(&units) {
        cluster.ready(node, "set-1").await;
        assert!(same(&unit.link("set"), files));
    }
    assert_eq!(cluster.origin_bytes() - before, 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_did_not_read_says_whether_declared_digests_are_so() {
    let mut cluster = Cluster::start().await;
    let _units = [cluster.sidecar("a").await, cluster.sidecar("b").await];
    for (revision, source) in [("good", "declared"), ("bad", "wrong")] {
        cluster.growing(revision, revision, &[(source, "a-2000000"), ("z", "c-9")], &["a"], 0).await;
        cluster.patch(revision, json!({"policy": {"witness": "b"}})).await;
    }
    let said = async |ingest: &str| {
        let what = format!("a word on {ingest}");
        eventually(&what, || async {
            let script = cluster.operator.script.lock().unwrap();
            let said = script.witnessed.iter().find(|(_, said)| said.ingest == ingest);
            said.map(|(node, said)| (node.clone(), said.verdict.clone()))
        })
        .await
    };
    let ingest = async |revision: &str| {
        let revision = cluster.revisions().get(revision).await.unwrap();
        revision.spec.policy.ingest.unwrap().id
    };
    let good = said(&ingest("good").await).await;
    let built = eventually("it is built", || async {
        cluster.operator.script.lock().unwrap().completed.get("good").cloned()
    })
    .await;
    let confirms = Verdict::Confirms { manifest_digest: built.manifest_digest };
    assert_eq!(good, ("b".to_owned(), confirms));
    let (_, Verdict::Contradicts { reason, message, .. }) = said(&ingest("bad").await).await else {
        panic!("it is not what was declared");
    };
    assert_eq!(reason, reason::DIGEST_MISMATCH);
    assert!(message.contains("wrong has sha256"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_start_again_and_read_on() {
    let mut cluster = Cluster::start().await;
    let mut units = vec![cluster.sidecar("a").await, cluster.sidecar("b").await];
    let files = &[("big", "slow-12000000")];
    cluster.growing("set-1", "set", files, &["a"], 0).await;
    eventually("half is read", || async { (cluster.origin_bytes() > 6_000_000).then_some(()) }).await;
    for unit in units.drain(..) {
        unit.stop().await;
    }
    units = vec![cluster.sidecar("a").await, cluster.sidecar("b").await];
    cluster.build("set-1").await;
    for (node, unit) in ["a", "b"].iter().zip(&units) {
        cluster.ready(node, "set-1").await;
        assert!(same(&unit.link("set"), files));
    }
    assert!(cluster.origin_bytes() < 12_000_000 + 3_500_000, "{}", cluster.origin_bytes());
}

/// A node that has a warrant, and signs what is not so of the first piece.
async fn lie(cluster: &Cluster, node: &str, outline: Outline, folder: &std::path::Path) -> Engine {
    let key = SigningKey::from_seed(&[9; 32]);
    let warrant = Warrant::new(&crate::operator::opener(), outline.id(), node, key.public()).unwrap();
    let length = outline.plan().pieces().len(0);
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let engine = Engine::start(EngineConfig { listen, ..EngineConfig::default() }).await.unwrap();
    let torrent = GrowTorrent {
        held: Vec::new(),
        outline,
        folder: folder.join("data"),
        journal: folder.join("journal"),
        trackers: Vec::new(),
        peers: Vec::new(),
    };
    let handle = engine.grow(&torrent).await.unwrap();
    let mut buffer = handle.buffer(length).await.unwrap();
    buffer.as_mut().fill(7);
    handle.put(&Fetcher { key, warrant }, 0, buffer).await.unwrap();
    // Before it has heard anything of the others.
    handle.set_trackers(cluster.tracker_specs(node));
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sees_fetchers_contradict_each_other_says_so_unasked() {
    let mut cluster = Cluster::start().await;
    let files = &[("x", "a-2000000")];
    let mut units = vec![cluster.sidecar("a").await];
    cluster.node("liar").await;
    cluster.growing("set-1", "set", files, &["a"], 0).await;
    eventually("it has been read", || async {
        cluster.operator.script.lock().unwrap().completed.contains_key("set-1").then_some(())
    })
    .await;
    let outline = outline_of("set-1", &cluster.granted(files), 0);
    let folder = tempfile::tempdir().unwrap();
    let _liar = lie(&cluster, "liar", outline, folder.path()).await;
    // A newcomer is told by both, unless it has told one of them that it knows already what the other says.
    let script = cluster.operator.script.clone();
    let seen = || script.lock().unwrap().witnessed.first().cloned();
    for node in ["b", "c", "d", "e"] {
        units.push(cluster.sidecar(node).await);
        let word = eventually("a word", || async { seen().map(drop) });
        if tokio::time::timeout(Duration::from_secs(15), word).await.is_ok() {
            break;
        }
    }
    let (node, said) = seen().expect("a node has seen it");
    assert_ne!(node, "a", "it reads nothing, and was asked nothing");
    let verdict = said.verdict;
    let Verdict::Contradicts { reason, message, mut accused } = verdict else { panic!("{verdict:?}") };
    accused.sort();
    assert_eq!((reason.as_str(), accused), (reason::FETCHER_FAULTY, vec!["a".to_owned(), "liar".to_owned()]));
    assert!(message.contains("piece 0"), "{message}");
}
