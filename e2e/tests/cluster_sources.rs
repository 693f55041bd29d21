//! Origins that misbehave, disks without room, odd datasets: each trouble has a reason, nothing wrong is published, and it
//! heals by itself when the cause goes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, DATA_ROOT};
use e2e::installed::{self, check_all, dataset, delete, distribution, published, wait_ready, wait_trouble};
use e2e::origin::{Content, Faults, Origin};
use e2e::payload;
use e2e::suite::{Needs, Suite};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use xtask::oci::hex;

const MIB: u64 = 1 << 20;
/// Of every node's data root: enough for the datasets of one scenario.
const DISK: u64 = 512 * MIB;
const SIZE: u64 = 8 * MIB;
const TROUBLE: Duration = Duration::from_secs(90);
const HEALED: Duration = Duration::from_mins(2);
const GONE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("sources", 3)
        .data_disk(DISK)
        .setup(|c| Box::pin(installed::install(c, &[])))
        .scenario("404", Needs::OwnNodes, |c| Box::pin(not_found(c)))
        .scenario("an origin that drops every connection", Needs::OwnNodes, |c| Box::pin(drops(c)))
        .scenario("an origin that drops now and then is read on", Needs::OwnNodes, |c| {
            Box::pin(drops_late(c))
        })
        .scenario("an origin that lies about the length", Needs::OwnNodes, |c| Box::pin(lies(c)))
        .scenario("an origin that ignores Range", Needs::OwnNodes, |c| Box::pin(ignores_range(c)))
        .scenario("a source that changes in mid-fetch", Needs::OwnNodes, |c| Box::pin(changes(c)))
        .scenario("a wrong sha256", Needs::OwnNodes, |c| Box::pin(wrong_digest(c)))
        .scenario("a denied address", Needs::OwnNodes, |c| Box::pin(denied(c)))
        .scenario("a full data root", Needs::OwnNodes, |c| Box::pin(full(c)))
        .scenario("an occupied path", Needs::OwnNodes, |c| Box::pin(occupied(c)))
        .scenario("one byte, no byte, odd names", Needs::OwnNodes, |c| Box::pin(odd_files(c)))
        .scenario("a path that leaves the dataset is refused", Needs::OwnNodes, |c| Box::pin(leaving_path(c)))
        .scenario("ten thousand files", Needs::OwnNodes, |c| Box::pin(many_files(c)))
        .scenario("an edited source is a new revision", Needs::OwnNodes, |c| Box::pin(edited(c)))
        .run()
}

/// An origin with one file of `SIZE` bytes, and the dataset of it.
async fn one_file(cluster: &mut Cluster, name: &str, seed: u64) -> Result<(Origin, String, Value)> {
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/file", seed, SIZE).await?;
    let dataset = dataset(name, &[("file", origin.url("/file"))]);
    Ok((origin, sha256, dataset))
}

/// No node shows anything under the dataset's name.
fn assert_unpublished(cluster: &Cluster, name: &str) -> Result<()> {
    for node in cluster.nodes()? {
        ensure!(!node.path(published(name, "file"))?.exists(), "{} shows a file of {name}", node.name());
    }
    Ok(())
}

/// The course of most scenarios: with `faults` the dataset gets one of `reasons`, without them the nodes get the bytes.
async fn fails_then_heals(
    cluster: &mut Cluster,
    (name, seed): (&str, u64),
    faults: Faults,
    reasons: &[&str],
) -> Result<()> {
    let (origin, sha256, dataset) = one_file(cluster, name, seed).await?;
    origin.fault(faults).await?;
    cluster.apply(dataset).await?;
    wait_trouble(cluster, name, reasons, TROUBLE).await?;
    assert_unpublished(cluster, name)?;
    origin.fault(Faults::default()).await?;
    wait_ready(cluster, name, HEALED).await?;
    check_all(cluster, (name, "file"), &sha256).await?;
    delete(cluster, name, GONE).await
}

async fn not_found(cluster: &mut Cluster) -> Result<()> {
    let faults = Faults { status: Some(404), ..Faults::default() };
    fails_then_heals(cluster, ("not-found", 21), faults, &["OriginNotFound"]).await
}

async fn drops(cluster: &mut Cluster) -> Result<()> {
    let faults = Faults { drop_after: Some(0), ..Faults::default() };
    fails_then_heals(cluster, ("drops", 22), faults, &["OriginUnavailable"]).await
}

async fn drops_late(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256, dataset) = one_file(cluster, "drops-late", 23).await?;
    origin.fault(Faults { drop_after: Some(3 * MIB), ..Faults::default() }).await?;
    cluster.apply(dataset).await?;
    wait_ready(cluster, "drops-late", HEALED).await?;
    check_all(cluster, ("drops-late", "file"), &sha256).await?;
    let given = origin.stats().await?.payload_bytes;
    assert!(given <= SIZE + SIZE / 4, "{given} bytes were read for {SIZE}: it did not go on where it was");
    delete(cluster, "drops-late", GONE).await
}

async fn lies(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256, mut dataset) = one_file(cluster, "lies", 24).await?;
    origin.fault(Faults { length_off_by: 1000, ..Faults::default() }).await?;
    dataset["spec"]["source"]["http"]["files"][0]["size"] = SIZE.into();
    cluster.apply(dataset).await?;
    wait_trouble(cluster, "lies", &["OriginLengthMismatch"], TROUBLE).await?;
    assert_unpublished(cluster, "lies")?;
    origin.fault(Faults::default()).await?;
    wait_ready(cluster, "lies", HEALED).await?;
    check_all(cluster, ("lies", "file"), &sha256).await?;
    delete(cluster, "lies", GONE).await
}

async fn ignores_range(cluster: &mut Cluster) -> Result<()> {
    // It never lets more than half of the file through in one answer, and always begins at the start.
    let faults = Faults { ignore_range: true, drop_after: Some(SIZE / 2), ..Faults::default() };
    fails_then_heals(cluster, ("ignores-range", 25), faults, &["OriginUnavailable"]).await
}

async fn changes(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(Some(4_000_000)).await?;
    origin.put_random("/file", 26, 48 * MIB).await?;
    cluster.apply(dataset("changes", &[("file", origin.url("/file"))])).await?;
    let first = e2e::cluster::until("a first revision", TROUBLE, || async {
        Ok(installed::revision(cluster, "changes").await.ok())
    })
    .await?;
    wait_any_transfer(cluster, 8 * MIB).await?;
    let sha256 = origin.put_random("/file", 27, 40 * MIB).await?;
    // The answer under way still is of the old version: it must not get to its end.
    origin.fault(Faults { drop_after: Some(0), ..Faults::default() }).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    origin.fault(Faults::default()).await?;
    origin.limit(None).await?;
    wait_ready(cluster, "changes", HEALED).await?;
    check_all(cluster, ("changes", "file"), &sha256).await?;
    assert_ne!(first, installed::revision(cluster, "changes").await?, "other bytes are another revision");
    delete(cluster, "changes", GONE).await
}

/// Waits until one of the nodes has `bytes` of something that is on its way.
async fn wait_any_transfer(cluster: &mut Cluster, bytes: u64) -> Result<()> {
    e2e::suite::eventually("a transfer", Duration::from_mins(1), || async {
        for node in cluster.nodes()? {
            if node.disk_usage(format!("{DATA_ROOT}/incoming")).await? >= bytes {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await
}

async fn wrong_digest(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256, mut dataset) = one_file(cluster, "wrong-digest", 28).await?;
    dataset["spec"]["source"]["http"]["files"][0]["sha256"] = sha256.clone().into();
    origin.fault(Faults { wrong_byte_at: Some(4 * MIB + 7), ..Faults::default() }).await?;
    cluster.apply(dataset).await?;
    wait_trouble(cluster, "wrong-digest", &["DigestMismatch"], TROUBLE).await?;
    assert_unpublished(cluster, "wrong-digest")?;
    origin.fault(Faults::default()).await?;
    wait_ready(cluster, "wrong-digest", HEALED).await?;
    check_all(cluster, ("wrong-digest", "file"), &sha256).await?;
    delete(cluster, "wrong-digest", GONE).await
}

async fn denied(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256, good) = one_file(cluster, "denied", 29).await?;
    for url in ["http://127.0.0.1:9/file", "http://169.254.169.254/file", "http://[::ffff:127.0.0.1]/file"] {
        cluster.apply(dataset("denied", &[("file", url.to_owned())])).await?;
        wait_trouble(cluster, "denied", &["OriginDenied"], TROUBLE).await?;
    }
    origin.fault(Faults { redirect: Some("http://127.0.0.1:9/file".into()), ..Faults::default() }).await?;
    cluster.apply(good).await?;
    wait_trouble(cluster, "denied", &["OriginDenied"], TROUBLE).await?;
    assert_unpublished(cluster, "denied")?;
    origin.fault(Faults::default()).await?;
    wait_ready(cluster, "denied", HEALED).await?;
    check_all(cluster, ("denied", "file"), &sha256).await?;
    delete(cluster, "denied", GONE).await
}

async fn full(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/file", 30, 128 * MIB).await?;
    let fill = format!("{DATA_ROOT}/not-ours");
    for node in cluster.nodes()? {
        node.exec("fallocate", &["-l", "420M", &fill]).await?.ok("fallocate")?;
    }
    cluster.apply(dataset("full", &[("file", origin.url("/file"))])).await?;
    wait_trouble(cluster, "full", &["DiskFull"], TROUBLE).await?;
    assert_unpublished(cluster, "full")?;
    for node in cluster.nodes()? {
        node.exec("rm", &[&fill]).await?.ok("rm")?;
    }
    wait_ready(cluster, "full", HEALED).await?;
    check_all(cluster, ("full", "file"), &sha256).await?;
    delete(cluster, "full", GONE).await
}

async fn occupied(cluster: &mut Cluster) -> Result<()> {
    let (_origin, sha256, dataset) = one_file(cluster, "occupied", 31).await?;
    let theirs = published("occupied", "theirs");
    let node = cluster.node(2)?;
    node.exec("mkdir", &["-p", &theirs]).await?.ok("mkdir")?;
    // A stray empty folder is no obstacle.
    cluster.node(3)?.exec("mkdir", &["-p", &published("occupied", "")]).await?.ok("mkdir")?;
    cluster.apply(dataset).await?;
    wait_trouble(cluster, "occupied", &["PathOccupied"], TROUBLE).await?;
    let node = cluster.node(2)?;
    ensure!(node.path(&theirs)?.exists(), "what is not ours was removed");
    node.exec("rm", &["-r", &published("occupied", "")]).await?.ok("rm")?;
    wait_ready(cluster, "occupied", HEALED).await?;
    check_all(cluster, ("occupied", "file"), &sha256).await?;
    delete(cluster, "occupied", GONE).await
}

async fn odd_files(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let files: [(&str, &str, Vec<u8>); 5] = [
        ("one byte", "/one", vec![7]),
        ("empty", "/empty", Vec::new()),
        ("names/mit Leerzeichen und Ümlaut.txt", "/umlaut", b"umlaut".to_vec()),
        ("names/日本語/ファイル", "/japanese", b"japanese".to_vec()),
        ("foo... bar/..foo", "/dots", b"dots".to_vec()),
    ];
    for (_, url, bytes) in &files {
        origin.put(url, Content::Bytes(bytes.clone())).await?;
    }
    let listed: Vec<_> = files.iter().map(|(path, url, _)| (*path, origin.url(url))).collect();
    cluster.apply(dataset("odd", &listed)).await?;
    cluster.apply(dataset("single-byte", &[("file", origin.url("/one"))])).await?;
    cluster.apply(dataset("single-empty", &[("file", origin.url("/empty"))])).await?;
    for name in ["odd", "single-byte", "single-empty"] {
        wait_ready(cluster, name, HEALED).await?;
    }
    for (path, _, bytes) in &files {
        check_all(cluster, ("odd", path), &hash(bytes)).await?;
    }
    check_all(cluster, ("single-byte", "file"), &hash(&[7])).await?;
    check_all(cluster, ("single-empty", "file"), &hash(&[])).await?;
    for name in ["odd", "single-byte", "single-empty"] {
        delete(cluster, name, GONE).await?;
    }
    Ok(())
}

async fn leaving_path(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    origin.put("/x", Content::Bytes(b"x".to_vec())).await?;
    // Inline, the API server refuses it; behind a manifest it is a condition.
    let refused = cluster.apply(dataset("leaves", &[("../x", origin.url("/x"))])).await;
    ensure!(
        refused.is_err_and(|error| format!("{error:#}").contains("path is relative")),
        "../x was accepted"
    );

    let manifest = json!({ "files": [{ "path": "../x", "url": origin.url("/x"), "size": 1 }] });
    origin.put("/manifest.json", Content::Bytes(serde_json::to_vec(&manifest)?)).await?;
    cluster
        .apply(distribution("leaves", &json!({ "http": { "manifestURL": origin.url("/manifest.json") } })))
        .await?;
    let message = wait_trouble(cluster, "leaves", &["InvalidPath"], TROUBLE).await?;
    ensure!(message.contains("../x"), "the message does not name the path: {message}");
    delete(cluster, "leaves", GONE).await
}

async fn many_files(cluster: &mut Cluster) -> Result<()> {
    const FILES: u64 = 10_000;
    let origin = cluster.origin(None).await?;
    let mut listed = Vec::new();
    for number in 0..FILES {
        let path = format!("shard-{:02}/sample {number:05}.txt", number % 100);
        let bytes = format!("sample {number}\n").into_bytes();
        listed.push(json!({
            "path": path, "url": origin.url(&format!("/{number}")), "size": bytes.len(),
            "sha256": hex(&Sha256::digest(&bytes)),
        }));
        origin.put(&format!("/{number}"), Content::Bytes(bytes)).await?;
    }
    let manifest = serde_json::to_vec(&json!({ "files": listed }))?;
    origin.put("/manifest.json", Content::Bytes(manifest)).await?;
    cluster
        .apply(distribution("many", &json!({ "http": { "manifestURL": origin.url("/manifest.json") } })))
        .await?;
    wait_ready(cluster, "many", Duration::from_mins(5)).await?;
    for node in cluster.nodes()? {
        let folder = published("many", "");
        let count = node.exec("find", &["-L", &folder, "-type", "f"]).await?.ok("find")?.lines().count();
        assert_eq!(count as u64, FILES, "files on {}", node.name());
    }
    for number in [0, 4_321, FILES - 1] {
        let path = format!("shard-{:02}/sample {number:05}.txt", number % 100);
        let sha256 = hex(&Sha256::digest(format!("sample {number}\n")));
        check_all(cluster, ("many", &path), &sha256).await?;
    }
    delete(cluster, "many", GONE).await
}

async fn edited(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    let stays = origin.put_random("/stays", 32, SIZE).await?;
    origin.put_random("/old", 33, SIZE).await?;
    let new = origin.put_random("/new", 34, SIZE).await?;
    let of =
        |second: &str| dataset("edited", &[("stays", origin.url("/stays")), ("file", origin.url(second))]);
    cluster.apply(of("/old")).await?;
    wait_ready(cluster, "edited", HEALED).await?;
    check_all(cluster, ("edited", "file"), &payload::sha256(33, SIZE)).await?;
    let first = installed::revision(cluster, "edited").await?;

    cluster.apply(of("/new")).await?;
    e2e::suite::eventually("a second revision", TROUBLE, || async {
        Ok(installed::revision(cluster, "edited").await? != first)
    })
    .await?;
    wait_ready(cluster, "edited", HEALED).await?;
    check_all(cluster, ("edited", "file"), &new).await?;
    check_all(cluster, ("edited", "stays"), &stays).await?;
    e2e::suite::eventually("the old revision's disk freed", HEALED, || async {
        for node in cluster.nodes()? {
            if node.disk_usage(format!("{DATA_ROOT}/store/{first}")).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    delete(cluster, "edited", GONE).await
}
