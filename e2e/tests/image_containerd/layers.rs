//! Layers lie on a node's disk once: whole sidecars, of which one has a real containerd beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crds::{ImageAccess, Materialize, NodePhase, PlatformManifest, RevisionImage};
use e2e::cluster::process::line_blocking;
use e2e::runtime::image::{INDEX, MANIFEST};
use e2e::runtime::suite::World;
use e2e::runtime::{MIRROR, UPSTREAM};
use e2e::suite::eventually;
use mirror::Digest;
use operator_api::{GrantedFile, reason};
use serde_json::json;
use sidecar::ImagesConfig;
use sidecar::images::SPARE;

use super::SOON;
use super::cluster::{Cluster, Unit};

/// Sooner than anybody looks who was not told.
const AT_ONCE: Duration = Duration::from_secs(5);
const NODE: &str = "node";
/// The image, and the same pinned.
const REVISION: &str = "app-1";
const PINNED: &str = "app-2";

/// The host as a sidecar sees it, with the content store mounted read-only as the chart does.
fn images(world: &World) -> Result<ImagesConfig> {
    let host = world.folder.join("host");
    let inside = |path: &Path| host.join(path.strip_prefix("/").unwrap_or(path));
    if !host.exists() {
        for folder in ["etc/containerd", "run/containerd"] {
            fs::create_dir_all(host.join(folder))?;
        }
        fs::copy(&world.containerd.config, host.join("etc/containerd/config.toml"))?;
        symlink(world.folder.join("containerd.sock"), host.join("run/containerd/containerd.sock"))?;
        let content = runtime::content_folder(&world.folder.join("root"));
        let mounted = inside(&content);
        // containerd makes it when it needs it, and the kubelet before (DirectoryOrCreate).
        fs::create_dir_all(&content)?;
        fs::create_dir_all(&mounted)?;
        line_blocking(&format!("mount --bind {} {}", content.display(), mounted.display()))?;
        line_blocking(&format!("mount -o remount,bind,ro {}", mounted.display()))?;
    }
    let mirror = ([127, 0, 0, 1], MIRROR).into();
    Ok(ImagesConfig { mirror, host, hosts_files: false, spare: SPARE, content_store: true })
}

fn revision_image(world: &World, materialize: Materialize) -> RevisionImage {
    let platform = PlatformManifest {
        platform: "linux/amd64".into(),
        digest: world.image.object("manifest").digest().to_string(),
        media_type: MANIFEST.into(),
    };
    RevisionImage {
        reference: world.image.reference(),
        digest: world.image.digest(),
        media_type: INDEX.into(),
        manifests: vec![platform],
        left_out: 0,
        access: ImageAccess::Cluster,
        materialize,
        pin: false,
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", hex::encode(digest.as_bytes()))
}

/// The image's layout, as the operator grants it.
fn files(world: &World) -> Vec<GrantedFile> {
    let file = |path: String, bytes: &[u8], url: Option<String>| GrantedFile {
        path,
        text: url.is_none().then(|| String::from_utf8_lossy(bytes).into_owned()),
        url: url.unwrap_or_default(),
        size: bytes.len() as u64,
        sha256: Some(hex::encode(Digest::of(bytes).as_bytes())),
        etag: None,
        last_modified: None,
    };
    let mut files = vec![
        file("index.json".into(), br#"{"schemaVersion":2,"manifests":[]}"#, None),
        file("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#, None),
    ];
    files.extend(world.image.objects().iter().map(|object| {
        let url = || format!("http://127.0.0.1:{UPSTREAM}/v2/app/blobs/{}", object.digest());
        let url = object.name.starts_with("layer").then(url);
        file(blob(&object.digest()), &object.bytes, url)
    }));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Nodes of which one has a runtime; the other has read the image.
async fn nodes(world: &World, materialize: Materialize) -> Result<(Cluster, Unit, Unit)> {
    world.use_mirror()?;
    let mut cluster = Cluster::start().await;
    let reader = cluster.sidecar("reader").await;
    cluster.images = Some(images(world)?);
    let node = cluster.sidecar(NODE).await;
    cluster.images = None;
    cluster.image = Some(revision_image(world, materialize));
    cluster.make(REVISION, "app", files(world), &["reader"], None).await;
    cluster.build(REVISION).await;
    cluster.ready(NODE, REVISION).await;
    Ok((cluster, reader, node))
}

/// Where layers are below the data root, if they are.
fn own_layers(world: &World, unit: &Unit, revision: &str) -> Vec<PathBuf> {
    let objects = world.image.objects().iter().filter(|object| object.name.starts_with("layer"));
    let data = unit.root.join("store").join(revision).join("data");
    objects.map(|layer| data.join(blob(&layer.digest()))).filter(|path| path.exists()).collect()
}

async fn in_runtime(world: &World) -> Result<usize> {
    let mut there = 0;
    for layer in world.image.layers() {
        there += usize::from(world.containerd.runtime.content(&layer).await?.is_some());
    }
    Ok(there)
}

/// Bytes on the disk below a folder.
fn usage(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata()))?;
        let metadata = metadata?;
        bytes += if metadata.is_dir() { usage(&path)? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Waits until the layers are the runtime's alone, and leased.
async fn lie_once(world: &World, node: &Unit, revision: &str) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let layers = world.image.layers().len();
    eventually("the own copies go", SOON, || async { Ok(own_layers(world, node, revision).is_empty()) })
        .await?;
    ensure!(in_runtime(world).await? == layers);
    ensure!(runtime.leased_layers(revision).await?.len() == layers, "they are leased");
    let used = usage(&node.root)?;
    ensure!(used < 100_000, "{used} bytes are below the data root");
    Ok(())
}

/// A new node gets all of it from whoever is there.
async fn newcomer(world: &World, cluster: &mut Cluster, revision: &str, name: &str) -> Result<Unit> {
    let unit = cluster.sidecar(name).await;
    is_seed(cluster, name, true).await?;
    let folder = unit.root.join("store").join(revision);
    let whole = folder.join(".complete");
    eventually("it is published", SOON, || async { Ok(whole.exists()) }).await?;
    for object in world.image.objects() {
        let path = folder.join("data").join(blob(&object.digest()));
        ensure!(fs::read(&path).with_context(|| path.display().to_string())? == object.bytes);
    }
    Ok(unit)
}

async fn is_seed(cluster: &Cluster, name: &str, wanted: bool) -> Result<()> {
    eventually(&format!("{name} seeds: {wanted}"), SOON, || async {
        Ok(cluster.seeds().await.iter().any(|seed| seed == name) == wanted)
    })
    .await
}

/// From the pull to the eviction.
async fn pulled_and_evicted(world: &World) -> Result<(Cluster, Unit, Unit)> {
    let runtime = &world.containerd.runtime;
    let (mut cluster, reader, node) = nodes(world, Materialize::Image).await?;
    lie_once(world, &node, REVISION).await?;
    reader.stop().await;
    let c = newcomer(world, &mut cluster, REVISION, "c").await?;
    c.stop().await;

    // After a restart nothing comes again.
    node.stop().await;
    is_seed(&cluster, NODE, false).await?;
    cluster.images = Some(images(world)?);
    let node = cluster.sidecar(NODE).await;
    cluster.images = None;
    is_seed(&cluster, NODE, true).await?;
    cluster.ready(NODE, REVISION).await;
    lie_once(world, &node, REVISION).await?;
    let d = newcomer(world, &mut cluster, REVISION, "d").await?;

    // The kubelet takes the image away.
    runtime.remove_image(&world.image.reference()).await?;
    eventually("the layers are let go of", AT_ONCE, || async {
        Ok(runtime.leased_layers(REVISION).await?.is_empty() && in_runtime(world).await? == 0)
    })
    .await?;
    cluster.wait(NODE, REVISION, NodePhase::Failed, Some(reason::IMAGE_EVICTED)).await;
    is_seed(&cluster, NODE, false).await?;
    ensure!(own_layers(world, &node, REVISION).is_empty(), "and nothing fills the disk again at once");
    Ok((cluster, node, d))
}

/// An image that goes comes back with a pod's pull.
pub async fn once(world: &World) -> Result<()> {
    let (mut cluster, node, d) = pulled_and_evicted(world).await?;
    world.pull().await?;
    cluster.ready(NODE, REVISION).await;
    lie_once(world, &node, REVISION).await?;
    d.stop().await;
    newcomer(world, &mut cluster, REVISION, "e").await?;
    Ok(())
}

/// Where unpacked layers are thrown away, only the lease keeps them.
pub async fn once_though_discarded(world: &World) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let (mut cluster, node, d) = pulled_and_evicted(world).await?;
    cluster.patch(REVISION, json!({ "policy": { "current": false } })).await;
    cluster.image = Some(RevisionImage { pin: true, ..revision_image(world, Materialize::Image) });
    cluster.make(PINNED, "app", files(world), &["d"], None).await;
    cluster.build(PINNED).await;
    cluster.ready(NODE, PINNED).await;
    lie_once(world, &node, PINNED).await?;
    d.stop().await;
    let e = newcomer(world, &mut cluster, PINNED, "e").await?;

    // A pull takes the pin off; 1.6 does not tell.
    world.pull().await?;
    eventually("it is pinned again", AT_ONCE, || async {
        let image = runtime.image(&world.image.reference()).await?;
        Ok(world.version.name == "1.6" || image.is_some_and(|image| image.pinned))
    })
    .await?;

    // Somebody else releases the lease.
    runtime.release(PINNED).await?;
    ensure!(in_runtime(world).await? == 0);
    let layers = world.image.layers().len();
    eventually("they are got again", SOON, || async { Ok(own_layers(world, &node, PINNED).len() == layers) })
        .await?;
    cluster.ready(NODE, PINNED).await;
    e.stop().await;
    newcomer(world, &mut cluster, PINNED, "f").await?;
    Ok(())
}

/// Blobs that a node only has are the runtime's while the kubelet's image is there.
pub async fn blobs_follow_the_kubelet(world: &World) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let (mut cluster, _reader, node) = nodes(world, Materialize::Blobs).await?;
    let layers = world.image.layers().len();
    ensure!(own_layers(world, &node, REVISION).len() == layers && in_runtime(world).await? == 0);
    world.log.clear();
    world.pull().await?;
    let asked = world.log.by_object();
    ensure!(asked.values().flatten().all(|request| request.starts_with("mirror")), "{asked:#?}");
    lie_once(world, &node, REVISION).await?;
    newcomer(world, &mut cluster, REVISION, "c").await?;

    runtime.remove_image(&world.image.reference()).await?;
    eventually("they are got again", SOON, || async {
        Ok(own_layers(world, &node, REVISION).len() == layers)
    })
    .await?;
    ensure!(in_runtime(world).await? == 0 && runtime.leased_layers(REVISION).await?.is_empty());
    cluster.ready(NODE, REVISION).await;
    Ok(())
}
