//! Other people's clients in a cluster: with nothing but the .torrent they download from sidecars, and sidecars download from
//! them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crds::DistributionClass;
use e2e::clients::{Client, Job, Running};
use e2e::cluster::Cluster;
use e2e::installed::{self, NAMESPACE, check_node, dataset, wait_ready};
use e2e::suite::{Needs, Suite, eventually};
use kube::api::Api;
use torrent::{Limits, Metainfo, Version};

const PAYLOAD: u64 = 32 << 20;
/// What the node that has the data from the origin may send while another node downloads: 30 s are not enough for half.
const SLOW: u64 = 512 << 10;
/// Where the client runs: a node that is not to have the data.
const GUEST: usize = 3;
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    Suite::new("clients", 3)
        .setup(|c| Box::pin(installed::install(c, &[])))
        .scenario("libtorrent and sidecars exchange a hybrid", Needs::OwnNodes, |c| {
            Box::pin(both_ways(c, Client::Libtorrent))
        })
        .scenario("rtorrent and sidecars exchange a hybrid", Needs::OwnNodes, |c| {
            Box::pin(both_ways(c, Client::Rtorrent))
        })
        .scenario("Transmission and sidecars exchange a v1 torrent", Needs::OwnNodes, |c| {
            Box::pin(both_ways(c, Client::Transmission))
        })
        .scenario("aria2 and sidecars exchange a v1 torrent", Needs::OwnNodes, |c| {
            Box::pin(both_ways(c, Client::Aria2))
        })
        .run()
}

async fn both_ways(cluster: &mut Cluster, client: Client) -> Result<()> {
    let name = format!("{client:?}").to_lowercase();
    let python = match client {
        Client::Libtorrent => e2e::python::libtorrent("clients", Path::new(env!("CARGO_TARGET_TMPDIR")))?
            .context("there is no libtorrent")?,
        _ => PathBuf::new(),
    };
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/payload", 80 + client as u64, PAYLOAD).await?;
    let mut object = dataset(&name, &[("payload", origin.url("/payload"))]);
    object["spec"]["placement"]["nodeSelector"]["clients"] = name.as_str().into();
    if client.version() == Version::V1 {
        object["spec"]["torrent"]["version"] = "V1".into();
    }
    let label = format!("clients={name}");
    cluster.kubectl(&["label", "--overwrite", "nodes", "node1", &label]).await?;
    cluster.apply(object).await?;
    wait_ready(cluster, &name, PATIENCE).await?;

    let scratch = tempfile::tempdir()?;
    let (torrent, theirs) = (scratch.path().join("it.torrent"), scratch.path().join("theirs"));
    let metainfo = dot_torrent(cluster, &name).await?;
    ensure!(metainfo.trackers().len() == 2, "not two tiers of trackers: {:?}", metainfo.trackers());
    std::fs::write(&torrent, metainfo.encode())?;
    let guest = &*cluster.node(GUEST)?;
    let running = client.start(&Job {
        // On all: where a tracker runs on the same node, its Service shows it the address of the node's bridge.
        address: Ipv4Addr::UNSPECIFIED,
        torrent: &torrent,
        folder: &theirs,
        scratch: &scratch.path().join("own"),
        python: &python,
        trackers: &metainfo.trackers().concat(),
        network: Some(guest.network()),
    })?;
    let outcome = exchange(cluster, &name, &theirs.join(metainfo.name()), &sha256, &label).await;
    cluster.node(1)?.limit_bandwidth(None, None).await?;
    outcome.with_context(|| said(&running))?;
    drop(running);
    installed::delete(cluster, &name, Duration::from_secs(30)).await
}

fn said(running: &Running) -> String {
    format!("the client said:\n{}", running.log())
}

/// The client downloads from node 1; then node 2 downloads from the client, since node 1 sends too slowly.
async fn exchange(cluster: &mut Cluster, name: &str, target: &Path, sha256: &str, label: &str) -> Result<()> {
    eventually("the file at the client", PATIENCE, || async {
        let path = target.to_owned();
        let found = tokio::task::spawn_blocking(move || e2e::payload::sha256_file(&path)).await?;
        Ok(found.is_ok_and(|found| found == sha256))
    })
    .await?;

    cluster.node(1)?.limit_bandwidth(Some(SLOW), None).await?;
    let before = cluster.node(1)?.network().traffic().await?.sent;
    cluster.kubectl(&["label", "--overwrite", "nodes", "node2", label]).await?;
    let path = installed::published(name, "payload");
    let node = &*cluster.node(2)?;
    eventually("the dataset on node2", PATIENCE, || async {
        Ok(node.path(&path).is_ok_and(|file| file.exists()))
    })
    .await?;
    let sent = cluster.node(1)?.network().traffic().await?.sent - before;
    check_node(cluster, 2, (name, "payload"), sha256).await?;
    ensure!(sent < PAYLOAD / 2, "node1 sent {sent} bytes: the client gave less than half of {PAYLOAD}");
    Ok(())
}

/// What a person would download: the .torrent as the trackers have it.
async fn dot_torrent(cluster: &mut Cluster, name: &str) -> Result<Metainfo> {
    let revision = installed::revision(cluster, name).await?;
    let revisions: Api<crds::DistributionRevision> = Api::all(cluster.kube());
    let torrent = revisions.get(&revision).await?.spec.torrents.into_iter().next().context("a torrent")?;
    let infohash = torrent.info_hash_v2.or(torrent.info_hash_v1).context("an infohash")?;
    let class: DistributionClass = Api::all(cluster.kube()).get(crds::DEFAULT_CLASS).await?;
    let tracker = class.status.unwrap_or_default().trackers.into_iter().next().context("a tracker")?;
    let header = installed::tracker_header(cluster, NAMESPACE).await?;
    let (folder, url) = (tempfile::tempdir()?, format!("{}/metainfo/{infohash}", tracker.url));
    let file = folder.path().join("it.torrent").display().to_string();
    let curl = ["--silent", "--show-error", "--fail", "--max-time", "10", "--header", &header];
    cluster.node(1)?.exec("curl", &[&curl[..], &["--output", &file, &url]].concat()).await?.ok(&url)?;
    Ok(Metainfo::parse(&std::fs::read(&file)?, &Limits::OWN)?)
}
