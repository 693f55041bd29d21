//! Layers of images that lie in the container runtime's content store and nowhere else.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crds::{ImageAccess, Materialize, NodePhase, PlatformManifest, RevisionImage};
use operator_api::{GrantedFile, reason};
use serde_json::json;
use sidecar::ImagesConfig;
use sidecar::images::SPARE;

use crate::cluster::{Cluster, Unit, bytes_of, eventually, http};
use crate::image::{Registry, digest, granted_text};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// By what their bytes follow from.
const LAYERS: [&str; 2] = ["a-3000000", "b-70000"];
const BLOBS: &str = "blobs/sha256";

/// A node's container runtime, as far as it lies on the disk.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(host.content().join(BLOBS)).unwrap();
        host
    }

    fn content(&self) -> PathBuf {
        self.folder.path().join("var/lib/containerd/io.containerd.content.v1.content")
    }

    fn blob(&self, layer: &str) -> PathBuf {
        blob(&self.content(), layer)
    }

    fn images(&self) -> ImagesConfig {
        let mirror = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let host = self.folder.path().to_owned();
        ImagesConfig { mirror, host, hosts_files: false, spare: SPARE, content_store: true }
    }

    /// What a sidecar does when the runtime has pulled its image.
    fn take_over(&self, unit: &Path, layers: &[&str]) {
        let data = unit.join("store/app-1/data");
        let mode = |mode| fs::set_permissions(data.join(BLOBS), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o755);
        for layer in layers {
            let own = blob(&data, layer);
            fs::copy(&own, self.blob(layer)).unwrap();
            fs::remove_file(own).unwrap();
        }
        mode(0o555);
    }
}

fn blob(folder: &Path, layer: &str) -> PathBuf {
    folder.join(BLOBS).join(digest(&bytes_of(layer)))
}

/// An image of these layers, and the files of its layout.
fn image(registry: &Registry, layers: &[&str]) -> (RevisionImage, Vec<GrantedFile>) {
    let mut files = registry.layout(layers);
    let config = "{}".to_owned();
    let of = |layer: &&str| {
        let digest = format!("sha256:{}", digest(&bytes_of(layer)));
        json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": bytes_of(layer).len() })
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
                    "digest": format!("sha256:{}", digest(config.as_bytes())) },
        "layers": layers.iter().map(of).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string();
    let digest_of_manifest = format!("sha256:{}", digest(manifest.as_bytes()));
    for text in [config, manifest] {
        files.push(granted_text(&format!("{BLOBS}/{}", digest(text.as_bytes())), text));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let image = RevisionImage {
        reference: "registry.example/team/app:v1".into(),
        digest: digest_of_manifest.clone(),
        media_type: MANIFEST.into(),
        manifests: vec![PlatformManifest {
            platform: "linux/amd64".into(),
            digest: digest_of_manifest,
            media_type: MANIFEST.into(),
        }],
        left_out: 0,
        access: ImageAccess::Cluster,
        materialize: Materialize::Blobs,
        pin: false,
    };
    (image, files)
}

/// Two nodes that have the image app-1; the second is on this host.
async fn two_sidecars(host: &Host) -> (Cluster, Registry, [Unit; 2], SocketAddr) {
    let mut cluster = Cluster::start().await;
    let registry = Registry::start(cluster.operator.clone(), "Bearer canary").await;
    cluster.authorization = Some(registry.authorization("Bearer canary"));
    cluster.images = Some(Host::new().images());
    let a = cluster.sidecar("a").await;
    let images = host.images();
    let mirror = images.mirror;
    cluster.images = Some(images);
    let b = cluster.sidecar("b").await;
    let (image, files) = image(&registry, &LAYERS);
    cluster.image = Some(image);
    cluster.make("app-1", "app", files, &["a"], None).await;
    cluster.build("app-1").await;
    cluster.ready("a", "app-1").await;
    cluster.ready("b", "app-1").await;
    (cluster, registry, [a, b], mirror)
}

/// The same, and the second is stopped, and has left its layers to the runtime.
async fn two_nodes(host: &Host) -> (Cluster, Registry, Unit, PathBuf) {
    let (cluster, registry, [a, b], _) = two_sidecars(host).await;
    let root = b.root.clone();
    b.stop().await;
    host.take_over(&root, &LAYERS);
    (cluster, registry, a, root)
}

async fn seeds(cluster: &Cluster, node: &str) {
    eventually(&format!("{node} seeds"), || async {
        cluster.seeds().await.contains(&node.to_owned()).then_some(())
    })
    .await;
}

/// Waits until the layers are below the data root.
async fn has_image(unit: &Unit) {
    for layer in LAYERS {
        let path = blob(&unit.link("app"), layer);
        let bytes = eventually("the layer is there", || async { fs::read(&path).ok() }).await;
        assert!(bytes == bytes_of(layer), "{layer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_only_the_runtime_has_are_seeded_from_there_until_they_go() {
    let host = Host::new();
    let (mut cluster, registry, a, _) = two_nodes(&host).await;
    let given = registry.seen(|seen| seen.given);
    let b = cluster.sidecar("b").await;
    seeds(&cluster, "b").await;
    let of_b = cluster.ready("b", "app-1").await;
    a.stop().await;

    // All of it comes from the one that has half of it in its runtime.
    cluster.images = None;
    let c = cluster.sidecar("c").await;
    seeds(&cluster, "c").await;
    has_image(&c).await;
    for layer in LAYERS {
        assert!(
            host.blob(layer).exists() && !blob(&b.link("app"), layer).exists(),
            "{layer} lies there once"
        );
    }
    assert_eq!(cluster.entry("b", "app-1").await.unwrap().peer_bytes, of_b.peer_bytes, "nothing came again");

    // One of them goes.
    fs::remove_file(host.blob(LAYERS[0])).unwrap();
    has_image(&b).await;
    cluster.ready("b", "app-1").await;
    assert!(
        !host.blob(LAYERS[0]).exists() && host.blob(LAYERS[1]).exists(),
        "nothing is done to the content store"
    );
    assert_eq!(registry.seen(|seen| seen.given), given, "and none of it from the registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn t073_bits_that_flip_in_the_content_store_reach_nobody_and_are_got_again() {
    let host = Host::new();
    let (mut cluster, _registry, a, _) = two_nodes(&host).await;
    a.stop().await;
    let mut rotten = bytes_of(LAYERS[0]);
    rotten[2_500_000] ^= 1;
    fs::remove_file(host.blob(LAYERS[0])).unwrap();
    fs::write(host.blob(LAYERS[0]), &rotten).unwrap();
    let b = cluster.sidecar("b").await;
    seeds(&cluster, "b").await;
    cluster.images = None;
    let c = cluster.sidecar("c").await;
    let coming = c.root.join("incoming/app-1/journal");
    eventually("c has begun", || async { coming.exists().then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!c.root.join("store/app-1").exists(), "all but one piece is to be had");
    let _a = cluster.sidecar("a").await;
    has_image(&c).await;
    has_image(&b).await;
    assert!(fs::read(host.blob(LAYERS[0])).unwrap() == rotten, "it is the runtime's to mend");
}

#[tokio::test(flavor = "multi_thread")]
async fn t073_a_bit_that_flips_on_the_own_disk_does_not_reach_the_runtime() {
    let host = Host::new();
    let (_cluster, registry, [_a, b], mirror) = two_sidecars(&host).await;
    let given = registry.seen(|seen| seen.given);
    let (layer, bytes) = (blob(&b.root.join("store/app-1/data"), LAYERS[0]), bytes_of(LAYERS[0]));
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(&layer).unwrap();
    file.write_all_at(&[bytes[2_500_000] ^ 1], 2_500_000).unwrap();

    // A runtime that gets it fails the pull, and every other after that.
    let url = format!("http://{mirror}/v2/team/app/blobs/sha256:{}?ns=registry.example", digest(&bytes));
    let pull = http().get(&url).send().await.unwrap();
    assert_eq!(pull.content_length(), Some(bytes.len() as u64));
    assert!(pull.bytes().await.unwrap() == bytes, "what came from the other node goes on at the same byte");
    assert!(fs::read(&layer).unwrap() == bytes, "and is on the disk");
    assert_eq!(registry.seen(|seen| seen.given), given);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_takes_layers_from_the_runtime_and_asks_nobody_for_them() {
    let host = Host::new();
    let (mut cluster, registry, _a, _) = two_nodes(&host).await;
    let b = cluster.sidecar("b").await;
    seeds(&cluster, "b").await;
    let new = "d-2000000";
    for (revision, ingest) in [("other-1", false), ("more-1", true)] {
        let name = revision.trim_end_matches("-1");
        let (image, files) = image(&registry, &[LAYERS[0], if ingest { "e-2000000" } else { new }]);
        let texts: u64 = files.iter().filter(|file| file.text.is_some()).map(|file| file.size).sum();
        cluster.image = Some(image);
        let ingest = ingest.then(|| crate::cluster::ingest_of(revision, &files, 0));
        cluster.make(revision, name, files, &["b"], ingest).await;
        cluster.build(revision).await;
        let entry = cluster.ready("b", revision).await;
        let least = 2_000_000..=2_000_000 + texts as i64;
        assert!(least.contains(&entry.origin_bytes), "{revision}: {}", entry.origin_bytes);
        assert_eq!(entry.peer_bytes, 0);
        assert!(fs::read(blob(&b.link(name), LAYERS[0])).unwrap() == bytes_of(LAYERS[0]));
    }
    // And where somebody else reads the rest, now or meanwhile.
    for (revision, ingest) in [("third-1", false), ("fourth-1", true)] {
        let name = revision.trim_end_matches("-1");
        let (image, files) = image(&registry, &[LAYERS[0], if ingest { "f-2000000" } else { "g-2000000" }]);
        let others: u64 = files.iter().map(|file| file.size).sum::<u64>() - 3_000_000;
        cluster.image = Some(image);
        let ingest = ingest.then(|| crate::cluster::ingest_of(revision, &files, 0));
        cluster.make(revision, name, files, &["a"], ingest).await;
        cluster.build(revision).await;
        let entry = cluster.ready("b", revision).await;
        assert!(entry.peer_bytes as u64 <= others, "{revision}: {} of {others}", entry.peer_bytes);
        assert!(fs::read(blob(&b.link(name), LAYERS[0])).unwrap() == bytes_of(LAYERS[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_runtime_is_not_within_the_quota() {
    let host = Host::new();
    let (mut cluster, registry, _a, _) = two_nodes(&host).await;
    let b = cluster.sidecar("b").await;
    seeds(&cluster, "b").await;
    cluster.patch_class(json!({ "quota": "4M" })).await;
    let (image, files) = image(&registry, &["d-2000000"]);
    cluster.image = Some(image);
    cluster.make("other-1", "other", files, &["b"], None).await;
    cluster.build("other-1").await;
    cluster.ready("b", "other-1").await;
    // On the other node both are below the data root.
    cluster.wait("a", "other-1", NodePhase::Failed, Some(reason::QUOTA_EXCEEDED)).await;
    assert!(blob(&b.link("other"), "d-2000000").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_given_to_the_user_is_whole() {
    let host = Host::new();
    let (mut cluster, _registry, _a, _) = two_nodes(&host).await;
    let b = cluster.sidecar("b").await;
    seeds(&cluster, "b").await;
    assert!(!blob(&b.link("app"), LAYERS[0]).exists());
    cluster.patch("app-1", json!({ "policy": { "onDelete": "Retain", "deleting": true } })).await;
    cluster.gone("b", "app-1").await;
    has_image(&b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_content_store_layers_are_got_again() {
    let host = Host::new();
    let (mut cluster, _registry, _a, _) = two_nodes(&host).await;
    cluster.images = Some(ImagesConfig { content_store: false, ..host.images() });
    let b = cluster.sidecar("b").await;
    has_image(&b).await;
    cluster.ready("b", "app-1").await;
}
