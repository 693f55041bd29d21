//! Images on demand on a real cluster: pods of images that no Distribution names, on all nodes at once.
//!
//! `-- --nodes N` is how many nodes; `SAMARA_E2E_MIB` how large the image is.

use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::Cluster;
use e2e::installed::{self, run_everywhere, wait_mirror};
use e2e::registry::{Layer, Registry, image_size};
use e2e::suite::{Needs, Suite};
use serde_json::json;

const MIB: usize = 1 << 20;
/// The image's size, where nobody says another.
const SIZE: usize = 64 * MIB;
/// Of every node's data root, with room for the largest image: on the machine's own, how full that is would decide what is shared.
const DISK: u64 = 8 << 30;
/// The registry's link.
const LINK: u64 = 16_000_000;
/// Blobs below this are the registry's to give.
const SMALLEST: u64 = 1 << 20;
/// The same registry by a name that the class does not list.
const UNLISTED: &str = "unlisted.example";
/// Read once, and a little more where two nodes read at the same time.
const ONCE: f64 = 1.05;

/// The registry of all scenarios. It ends with the cluster, which ends whatever runs in its networks.
static REGISTRY: OnceLock<Registry> = OnceLock::new();

fn main() -> ExitCode {
    Suite::new("demand", 3)
        .data_disk(DISK)
        .setup(|c| Box::pin(install(c)))
        .scenario(
            "pods of an image that nobody has named start everywhere, and its registry gives each layer once",
            Needs::OwnNodes,
            |c| Box::pin(once(c)),
        )
        .scenario(
            "layers that another image has are not read again, not even for a new node",
            Needs::OwnNodes,
            |c| Box::pin(shared_layers(c)),
        )
        .run()
}

async fn install(cluster: &mut Cluster) -> Result<()> {
    let registry = cluster.registry().await?;
    registry.limit(Some(LINK)).await?;
    // Runtimes speak TLS where nobody says otherwise.
    let url = format!("http://{}", registry.host);
    cluster.name_registry(&registry.host, &url)?;
    cluster.name_registry(UNLISTED, &url)?;
    let classes = json!([{
        "name": "default", "root": e2e::cluster::DATA_ROOT,
        "origin": { "plainHTTP": ["10.0.0.0/8"] },
        "images": { "enabled": true, "registries": [registry.host] },
    }]);
    REGISTRY.get_or_init(|| registry);
    installed::install(cluster, &["--set-json", &format!("classes={classes}")]).await?;
    for node in cluster.nodes()? {
        wait_mirror(cluster, &node.name()).await?;
    }
    Ok(())
}

fn registry() -> Result<&'static Registry> {
    REGISTRY.get().context("the setup starts the registry")
}

/// The program, two layers that do not compress, and one that is too small to be shared: about `size` bytes, others for each seed.
fn image(seed: u64, size: usize) -> Result<[Layer; 4]> {
    const SMALL: usize = 256 * 1024;
    let third = size / 3;
    Ok([
        Layer::other_program(seed, third)?,
        Layer::noise(seed + 1, third)?,
        Layer::noise(seed + 2, third - SMALL)?,
        Layer::noise(seed + 3, SMALL)?,
    ])
}

/// What the registry has given of the layers that are shared, for each byte of them.
fn copies(registry: &Registry, layers: &[Layer]) -> Result<f64> {
    let (mut size, mut given) = (0, 0);
    for layer in layers.iter().filter(|layer| layer.size() >= SMALLEST) {
        size += layer.size();
        given += bytes(registry, layer)?;
    }
    Ok(given as f64 / size as f64)
}

/// What it has given of one.
fn bytes(registry: &Registry, layer: &Layer) -> Result<u64> {
    Ok(registry.given(&layer.digest())?.iter().map(|given| given.bytes).sum())
}

/// For a failure: who has got how much of which layer.
fn account(registry: &Registry, layers: &[Layer]) -> Result<String> {
    let mut lines = Vec::new();
    for layer in layers {
        lines.push(format!("{} of {} bytes:", layer.digest(), layer.size()));
        let given = registry.given(&layer.digest())?;
        lines.extend(given.into_iter().map(|given| format!("  {} to {}", given.bytes, given.to)));
    }
    Ok(lines.join("\n"))
}

/// Runs pods of an image on all nodes; answers after how many seconds they ran, and the [`copies`].
async fn start(cluster: &Cluster, (name, reference): (&str, &str), layers: &[Layer]) -> Result<(f64, f64)> {
    let registry = registry()?;
    let before = registry.traffic().await?.sent;
    let seconds = run_everywhere(cluster, name, reference).await?.as_secs_f64();
    let sent = (registry.traffic().await?.sent - before) / MIB as u64;
    let copies = copies(registry, layers)?;
    let (nodes, mib) = (cluster.nodes()?.len(), layers.iter().map(Layer::size).sum::<u64>() / MIB as u64);
    eprintln!(
        "{name}: {mib} MiB, pods on {nodes} nodes {seconds:.1} s after they were applied; the registry gave its \
         large layers {copies:.3} times, and sent {sent} MiB"
    );
    Ok((seconds, copies))
}

fn ensure_once(copies: f64, layers: &[Layer]) -> Result<()> {
    // Below 1 the log would not be what this takes it for.
    let is_once = (1.0..=ONCE).contains(&copies);
    ensure!(is_once, "large layers were given {copies:.3} times:\n{}", account(registry()?, layers)?);
    Ok(())
}

async fn once(cluster: &mut Cluster) -> Result<()> {
    let (registry, size) = (registry()?, image_size(SIZE)?);
    let (alone, shared) = (image(10, size)?, image(20, size)?);
    registry.push("team/alone", "v1", &alone).await?;
    let reference = registry.push("team/shared", "v1", &shared).await?.reference;

    // Without Samara: the mirror is asked and has nothing, as of any registry that is not listed.
    let unlisted = format!("{UNLISTED}/team/alone:v1");
    let (without, by_all) = start(cluster, ("alone", &unlisted), &alone).await?;
    let nodes = cluster.nodes()?.len() as f64;
    ensure!(by_all >= nodes, "{nodes} nodes, and {by_all:.3} copies:\n{}", account(registry, &alone)?);

    // What the first has left to be written is not the second's burden.
    tokio::task::spawn_blocking(rustix::fs::sync).await?;
    let (with, copies) = start(cluster, ("shared", &reference), &shared).await?;
    eprintln!(
        "{} MiB, {nodes} nodes, {} MB/s: {with:.1} s on demand, {without:.1} s without, so {:.2} times as fast; over the \
         link alone {:.1} s",
        size / MIB,
        LINK / 1_000_000,
        without / with,
        size as f64 / LINK as f64
    );
    ensure_once(copies, &shared)
}

async fn shared_layers(cluster: &mut Cluster) -> Result<()> {
    let registry = registry()?;
    let [program, base, own, small] = image(30, 24 * MIB)?;
    let first = [program.clone(), base.clone()];
    let second = [program, base, own, small];
    let one = registry.push("team/one", "v1", &first).await?.reference;
    let two = registry.push("team/two", "v1", &second).await?.reference;
    let (_, copies) = start(cluster, ("one", &one), &first).await?;
    ensure_once(copies, &first)?;

    // The other nodes' runtimes have what the images share; a new one's has to get it from somewhere.
    let number = cluster.add_node().await?;
    wait_mirror(cluster, &format!("node{number}")).await?;
    let before = bytes(registry, &second[0])? + bytes(registry, &second[1])?;
    let (_, copies) = start(cluster, ("two", &two), &second).await?;
    let more = bytes(registry, &second[0])? + bytes(registry, &second[1])? - before;
    ensure!(more == 0, "{more} bytes of shared layers more:\n{}", account(registry, &second)?);
    ensure_once(copies, &second)
}
