//! A tag that has moved: two images of one name, of which one replaces the other.

use crds::{ImageAccess, Materialize, NodePhase, PlatformManifest, RevisionImage};
use operator_api::{GrantedFile, reason};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sidecar::ImagesConfig;

use crate::cluster::{Cluster, eventually};
use crate::runtime::FakeRuntime;

const NAME: &str = "registry.example/team/app:v1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn file(text: &str, path: Option<&str>) -> GrantedFile {
    let digest = hex::encode(Sha256::digest(text));
    GrantedFile {
        path: path.map_or_else(|| format!("blobs/sha256/{digest}"), str::to_owned),
        url: String::new(),
        size: text.len() as u64,
        sha256: Some(digest),
        text: Some(text.to_owned()),
        etag: None,
        last_modified: None,
    }
}

/// An image with this layer, and its files.
fn image(layer: &str, pin: bool) -> (RevisionImage, Vec<GrantedFile>) {
    let (config, layer) = (file("{}", None), file(layer, None));
    let described = |file: &GrantedFile, kind: &str| {
        let digest = format!("sha256:{}", file.sha256.as_ref().unwrap());
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": file.size})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": described(&config, "config.v1+json"), "layers": [described(&layer, "layer.v1.tar")],
    });
    let manifest = file(&manifest.to_string(), None);
    let digest = format!("sha256:{}", manifest.sha256.as_ref().unwrap());
    let platform = PlatformManifest {
        platform: "linux/amd64".into(),
        digest: digest.clone(),
        media_type: MANIFEST.into(),
    };
    let image = RevisionImage {
        reference: NAME.into(),
        digest,
        media_type: MANIFEST.into(),
        manifests: vec![platform],
        left_out: 0,
        access: ImageAccess::Cluster,
        materialize: Materialize::Image,
        pin,
    };
    let layout = file(r#"{"imageLayoutVersion":"1.0.0"}"#, Some("oci-layout"));
    let mut files = vec![config, layer, manifest, layout];
    files.sort_by(|a, b| a.path.cmp(&b.path));
    (image, files)
}

/// A node with a runtime on which an image is replaced by another of the same name. Answers their digests.
async fn replaced(cluster: &mut Cluster, host: &std::path::Path, pin: bool) -> (FakeRuntime, [String; 2]) {
    let mirror = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let runtime = FakeRuntime::start(host, mirror);
    let host_path = host.to_owned();
    cluster.images =
        Some(ImagesConfig { mirror, host: host_path, hosts_files: false, spare: 12, content_store: false });
    let _a = cluster.sidecar("a").await;
    let images = [image("one", pin), image("two", pin)];
    let digests = [images[0].0.digest.clone(), images[1].0.digest.clone()];
    for ((image, files), revision) in images.into_iter().zip(["app-1", "app-2"]) {
        let digest = image.digest.clone();
        cluster.image = Some(image);
        cluster.make(revision, "app", files, &["a"], None).await;
        if revision == "app-2" {
            cluster.patch("app-1", json!({"policy": {"current": false}})).await;
        }
        cluster.build(revision).await;
        cluster.ready("a", revision).await;
        assert_eq!(runtime.image(NAME), Some((digest, pin)));
    }
    cluster.gone("a", "app-1").await;
    (runtime, digests)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_what_was_replaced_takes_nothing_from_what_replaced_it() {
    let (mut cluster, host) = (Cluster::start().await, tempfile::tempdir().unwrap());
    let (runtime, [one, two]) = replaced(&mut cluster, host.path(), true).await;
    // Longer than until the next look, which would put the pin right again.
    for _ in 0..120 {
        assert_eq!(runtime.image(NAME), Some((two.clone(), true)), "its name and its pin");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let pulls = runtime.held.lock().unwrap().pulls.clone();
    assert_eq!(pulls, [format!("{NAME}@{one}"), format!("{NAME}@{two}")], "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_the_old_image_that_ends_late_is_put_right_and_one_of_another_is_told() {
    let (mut cluster, host) = (Cluster::start().await, tempfile::tempdir().unwrap());
    let (runtime, [one, two]) = replaced(&mut cluster, host.path(), false).await;
    runtime.name(NAME, &one);
    eventually("the newer one has its name again", || async {
        (runtime.image(NAME)?.0 == two).then_some(())
    })
    .await;
    cluster.ready("a", "app-2").await;
    runtime.name(NAME, &format!("sha256:{}", "9".repeat(64)));
    eventually("somebody else's image is told", || async {
        let entry = cluster.entry("a", "app-2").await?;
        (entry.phase != NodePhase::Ready && entry.reason.as_deref() == Some(reason::IMAGE_REPLACED))
            .then_some(())
    })
    .await;
}
