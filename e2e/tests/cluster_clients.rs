//! Other people's clients in a cluster: with nothing but the .torrent they download from sidecars, and sidecars download from
//! them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crds::DistributionClass;
use e2e::clients::{Client, Job, Running};
use e2e::cluster::Cluster;
use e2e::installed::{self, NAMESPACE, check_node, dataset, wait_ready};
use e2e::suite::{Needs, Suite, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use torrent::{Limits, Metainfo, Version};

const NODES: usize = 3;
const PAYLOAD: u64 = 32 << 20;
/// What the node that has the data from the origin may send while another node downloads: 30 s are not enough for half.
const SLOW: u64 = 512 << 10;
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    Suite::new("clients", NODES)
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

/// Which node reads the origin, which one gets the data from the client, and on which one the client runs.
struct Roles {
    first: usize,
    second: usize,
    guest: usize,
}

/// The client runs where no tracker does: to a tracker on its own node its Service would show it by the address of that node's
/// bridge, where the client does not listen.
async fn roles(cluster: &Cluster) -> Result<Roles> {
    let pods: Api<Pod> = Api::namespaced(cluster.kube(), NAMESPACE);
    let pods = pods.list(&ListParams::default()).await?.items;
    let trackers = pods.iter().filter(|pod| pod.name_any().starts_with("samara-tracker-"));
    let taken: Vec<&str> = trackers.filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    ensure!(!taken.is_empty(), "no tracker runs");
    let free = |node: &usize| !taken.contains(&format!("node{node}").as_str());
    let guest = (1..=NODES).find(free).context("a tracker on every node")?;
    let mut others = (1..=NODES).filter(|node| *node != guest);
    let (first, second) = others.next().zip(others.next()).context("two more nodes")?;
    Ok(Roles { first, second, guest })
}

async fn both_ways(cluster: &mut Cluster, client: Client) -> Result<()> {
    let roles = roles(cluster).await?;
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
    cluster.kubectl(&["label", "--overwrite", "nodes", &format!("node{}", roles.first), &label]).await?;
    cluster.apply(object).await?;
    wait_ready(cluster, &name, PATIENCE).await?;

    let scratch = tempfile::tempdir()?;
    let (torrent, theirs) = (scratch.path().join("it.torrent"), scratch.path().join("theirs"));
    let metainfo = dot_torrent(cluster, &name, roles.first).await?;
    ensure!(metainfo.trackers().len() == 2, "not two tiers of trackers: {:?}", metainfo.trackers());
    std::fs::write(&torrent, metainfo.encode())?;
    let guest = &*cluster.node(roles.guest)?;
    let running = client.start(&Job {
        address: guest.address().into(),
        torrent: &torrent,
        folder: &theirs,
        scratch: &scratch.path().join("own"),
        python: &python,
        trackers: &metainfo.trackers().concat(),
        network: Some(guest.network()),
    })?;
    let outcome = exchange(cluster, &roles, &name, &theirs.join(metainfo.name()), &sha256, &label).await;
    cluster.node(roles.first)?.limit_bandwidth(None, None).await?;
    outcome.with_context(|| said(&running))?;
    drop(running);
    installed::delete(cluster, &name, Duration::from_secs(30)).await
}

fn said(running: &Running) -> String {
    format!("the client said:\n{}", running.log())
}

/// The client downloads from the first node; then the second downloads from the client, since the first sends too slowly.
async fn exchange(
    cluster: &mut Cluster,
    roles: &Roles,
    name: &str,
    target: &Path,
    sha256: &str,
    label: &str,
) -> Result<()> {
    eventually("the file at the client", PATIENCE, || async {
        let path = target.to_owned();
        let found = tokio::task::spawn_blocking(move || e2e::payload::sha256_file(&path)).await?;
        Ok(found.is_ok_and(|found| found == sha256))
    })
    .await?;

    cluster.node(roles.first)?.limit_bandwidth(Some(SLOW), None).await?;
    let before = cluster.node(roles.first)?.network().traffic().await?.sent;
    cluster.kubectl(&["label", "--overwrite", "nodes", &format!("node{}", roles.second), label]).await?;
    let path = installed::published(name, "payload");
    let node = &*cluster.node(roles.second)?;
    eventually("the dataset on the second node", PATIENCE, || async {
        Ok(node.path(&path).is_ok_and(|file| file.exists()))
    })
    .await?;
    let sent = cluster.node(roles.first)?.network().traffic().await?.sent - before;
    check_node(cluster, roles.second, (name, "payload"), sha256).await?;
    ensure!(
        sent < PAYLOAD / 2,
        "the first node sent {sent} bytes: the client gave less than half of {PAYLOAD}"
    );
    Ok(())
}

/// What a person would download: the .torrent as the trackers have it.
async fn dot_torrent(cluster: &mut Cluster, name: &str, node: usize) -> Result<Metainfo> {
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
    cluster.node(node)?.exec("curl", &[&curl[..], &["--output", &file, &url]].concat()).await?.ok(&url)?;
    Ok(Metainfo::parse(&std::fs::read(&file)?, &Limits::OWN)?)
}
