use std::sync::atomic::AtomicUsize;

use operator_api::reason;
use serde_json::json;

use super::scripted::{OCI_INDEX, OCI_MANIFEST, Scripted, all};
use super::{Digest, Platforms};

#[tokio::test]
async fn an_index_gives_its_platforms_manifests_and_blobs() {
    let registry = Scripted::start().await;
    let amd = registry.put_image(("linux", "amd64"), &[b"shared", b"amd"], None);
    let arm = registry.put_image(("linux", "arm64"), &[b"shared", b"arm"], None);
    let other = registry.put_image(("linux", "s390x"), &[b"other"], None);
    let index = registry.put_index(&[amd.clone(), arm, other], Some("latest"));
    let image = registry.registry(None).image(&all(&["linux/amd64", "linux/arm64"])).await.unwrap();
    assert_eq!(image.digest.to_string(), index["digest"].as_str().unwrap());
    assert_eq!(image.media_type, OCI_INDEX);
    let platforms: Vec<String> =
        image.manifests.iter().map(|manifest| manifest.platform.to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(
        (image.documents.len(), image.blobs.len(), image.left_out),
        (3, 5, 0),
        "the shared layer counts once"
    );
    assert!(
        image.blobs.contains_key(&Digest::of(b"shared")) && !image.blobs.contains_key(&Digest::of(b"other"))
    );
    let asked = registry.asked();
    assert_eq!(asked[0], "HEAD manifests/latest");
    assert_eq!(asked.len(), 4, "what is known by its digest is asked for by it: {asked:?}");
    assert!(asked[1..].iter().all(|request| request.starts_with("GET manifests/sha256:")));
}

#[tokio::test]
async fn one_manifest_is_of_the_platform_that_its_config_says() {
    let registry = Scripted::start().await;
    let entry = registry.put_image(("linux", "arm64"), &[b"layer"], Some("latest"));
    let image = registry.registry(None).image(&all(&["linux/arm64"])).await.unwrap();
    assert_eq!(image.digest.to_string(), entry["digest"].as_str().unwrap());
    assert_eq!((image.documents.len(), image.blobs.len(), image.manifests.len()), (1, 2, 1));
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert_eq!(error.reason(), reason::NO_SUCH_PLATFORM);
    assert!(error.to_string().contains("for linux/amd64; it has linux/arm64"), "{error}");
}

#[tokio::test]
async fn t095_a_tag_is_looked_up_once_and_a_digest_never() {
    let registry = Scripted::start().await;
    let entry = registry.put_image(("linux", "amd64"), &[b"layer"], Some("latest"));
    registry.set(|script| script.silent = true);
    let image = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap();
    assert_eq!(image.digest.to_string(), entry["digest"].as_str().unwrap(), "a registry need not say it");
    let tagged = registry.asked().iter().filter(|request| request.ends_with("manifests/latest")).count();
    assert_eq!(tagged, 2, "HEAD, and GET where that does not tell");
    let pinned = format!("x@{}", entry["digest"].as_str().unwrap());
    let before = registry.asked().len();
    registry.registry_of(&pinned, None, &[]).image(&all(&["linux/amd64"])).await.unwrap();
    assert!(registry.asked()[before..].iter().all(|request| request.contains("sha256:")));
}

#[tokio::test]
async fn what_a_tag_stands_for_costs_one_head_and_a_get_where_a_registry_knows_none() {
    let registry = Scripted::start().await;
    let entry = registry.put_image(("linux", "amd64"), &[b"layer"], Some("latest"));
    let digest = entry["digest"].as_str().unwrap();
    let asked = async |expected: &[&str]| {
        let before = registry.asked().len();
        assert_eq!(registry.registry(None).digest().await.unwrap().to_string(), digest);
        assert_eq!(registry.asked()[before..], *expected);
    };
    asked(&["HEAD manifests/latest"]).await;
    for status in [405, 501] {
        registry.set(|script| script.headless = Some(status));
        asked(&["HEAD manifests/latest", "GET manifests/latest"]).await;
    }
    registry.set(|script| script.headless = Some(503));
    let error = registry.registry(None).digest().await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_UNAVAILABLE, "that is no answer");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_are_refused() {
    let registry = Scripted::start().await;
    let entry = registry.put_image(("linux", "amd64"), &[b"layer"], None);
    registry.put_index(std::slice::from_ref(&entry), Some("latest"));
    registry.set(|script| {
        let stored =
            script.stored.get_mut(&format!("manifests/{}", entry["digest"].as_str().unwrap())).unwrap();
        stored.1.push(b' ');
    });
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert_eq!(error.reason(), reason::INVALID_MANIFEST);
    assert!(error.to_string().contains("gave bytes of"), "{error}");
}

#[tokio::test]
async fn t091_sizes_that_contradict_each_other_are_refused() {
    let registry = Scripted::start().await;
    let mut entry = registry.put_image(("linux", "amd64"), &[b"layer"], None);
    entry["size"] = json!(entry["size"].as_u64().unwrap() + 1);
    registry.put_index(&[entry], Some("latest"));
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert!(error.to_string().contains("its index says"), "{error}");

    let config = registry.put(
        "blobs",
        "application/vnd.oci.image.config.v1+json",
        br#"{"os":"linux","architecture":"amd64"}"#,
        None,
    );
    let layer = |size: u64| json!({"mediaType": "x", "digest": Digest::of(b"l").to_string(), "size": size});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer(1), layer(2)]});
    registry.put("manifests", OCI_MANIFEST, manifest.to_string().as_bytes(), Some("latest"));
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert!(error.to_string().contains("2 bytes here and 1 there"), "{error}");
}

#[tokio::test]
async fn t092_indexes_in_indexes_are_followed_four_deep_and_large_documents_are_not_read() {
    let registry = Scripted::start().await;
    let mut entry = registry.put_image(("linux", "amd64"), &[b"layer"], None);
    for depth in 1..=5 {
        entry = registry.put_index(&[entry], Some("latest"));
        let result = registry.registry(None).image(&all(&["linux/amd64"])).await;
        assert_eq!(result.is_ok(), depth <= 4, "{depth}: {result:?}");
    }
    registry.put("manifests", OCI_MANIFEST, &vec![b' '; (4 << 20) + 1], Some("latest"));
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
}

#[tokio::test]
async fn t092_what_is_named_often_is_read_once() {
    let registry = Scripted::start().await;
    let amd = registry.put_image(("linux", "amd64"), &[b"layer"], None);
    let inner = registry.put_index(&vec![amd.clone(); 300], None);
    let middle = registry.put_index(&vec![inner; 300], None);
    registry.put_index(&vec![middle; 300], Some("latest"));
    let image = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap();
    assert_eq!((image.documents.len(), image.manifests.len()), (4, 1));
    let asked = registry.asked();
    assert_eq!(asked.len(), 5, "the tag, three indexes and a manifest: {} requests", asked.len());

    let mut other = amd.clone();
    other["size"] = json!(amd["size"].as_u64().unwrap() + 1);
    registry.put_index(&[amd, other], Some("latest"));
    let error = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap_err();
    assert!(error.to_string().contains("named twice"), "{error}");
}

#[tokio::test]
async fn t092_a_revision_holds_64_manifests_and_no_more_are_taken() {
    let registry = Scripted::start().await;
    let arm = registry.put_image(("linux", "arm"), &[b"layer"], None);
    let variants = |count: usize| -> Vec<_> {
        let named = |n: usize| {
            let mut entry = arm.clone();
            entry["platform"]["variant"] = format!("v{n}").into();
            entry
        };
        (100..100 + count).map(named).collect()
    };
    registry.put_index(&variants(64), Some("latest"));
    assert_eq!(registry.registry(None).image(&all(&["linux/arm"])).await.unwrap().manifests.len(), 64);
    registry.put_index(&variants(65), Some("latest"));
    let error = registry.registry(None).image(&all(&["linux/arm"])).await.unwrap_err();
    assert!(error.to_string().contains("more than 64 of its manifests"), "{error}");
}

#[tokio::test]
async fn t092_a_registry_is_asked_so_often_for_one_image_and_no_more() {
    let registry = Scripted::start().await;
    let entries: Vec<_> = (0..63)
        .map(|n: u8| {
            let mut entry = registry.put_image(("linux", "arm"), &[&[n]], None);
            entry["platform"]["variant"] = format!("v{n}").into();
            entry
        })
        .collect();
    registry.put_index(&entries, Some("latest"));
    registry.registry(None).image(&all(&["linux/arm"])).await.unwrap();
    let before = registry.asked().len();
    assert_eq!(before, 65, "the tag and 64 documents");
    // Each of them first answers that it wants another token.
    let challenge = format!(r#"Bearer realm="{}""#, registry.server.url("/token"));
    registry.set(|script| {
        script.challenge = Some((challenge, "Bearer good".into()));
        script.token = Some((None, r#"{"token": "good"}"#.into()));
        script.fleeting = Some(AtomicUsize::new(1));
    });
    let error = registry.registry(None).image(&all(&["linux/arm"])).await.unwrap_err();
    assert!(error.to_string().contains("more than 192 requests"), "{error}");
    assert_eq!(registry.asked().len() - before, 192);
}

#[tokio::test]
async fn t092_what_is_read_of_a_registry_has_an_end() {
    let registry = Scripted::start().await;
    let client = registry.registry(None);
    for n in 0..8 {
        let bytes = vec![n; (4 << 20) - usize::from(n == 7)];
        let entry = registry.put("manifests", OCI_INDEX, &bytes, None);
        let digest = Digest::parse(entry["digest"].as_str().unwrap()).unwrap();
        client.manifest(&digest).await.unwrap();
    }
    let two = registry.put("manifests", OCI_INDEX, b"{}", None);
    let error = client.manifest(&Digest::parse(two["digest"].as_str().unwrap()).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("more than 32 MiB"), "{error}");
}

#[tokio::test]
async fn t093_foreign_layers_are_left_out_and_nobody_goes_there() {
    let registry = Scripted::start().await;
    let config = registry.put(
        "blobs",
        "application/vnd.oci.image.config.v1+json",
        br#"{"os":"linux","architecture":"amd64"}"#,
        None,
    );
    let own = registry.put("blobs", "application/vnd.oci.image.layer.v1.tar", b"own", None);
    let mut foreign = registry.put("blobs", "application/vnd.oci.image.layer.v1.tar", b"foreign", None);
    foreign["urls"] = json!([registry.server.url("/elsewhere")]);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [foreign, own]});
    registry.put("manifests", OCI_MANIFEST, manifest.to_string().as_bytes(), Some("latest"));
    let image = registry.registry(None).image(&all(&["linux/amd64"])).await.unwrap();
    assert_eq!((image.left_out, image.blobs.len()), (1, 2));
    assert!(!image.blobs.contains_key(&Digest::of(b"foreign")));
    assert!(registry.asked().iter().all(|request| !request.contains("elsewhere")));
}

#[tokio::test]
async fn what_a_registry_lacks_and_when_to_come_again_is_told() {
    let registry = Scripted::start().await;
    let wanted = all(&["linux/amd64"]);
    let error = registry.registry(None).image(&wanted).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_NOT_FOUND);
    assert!(error.to_string().contains("team/app:latest is not in its registry: check its name"), "{error}");
    let gone = registry.registry_of(&format!("x@{}", Digest::of(b"gone")), None, &[]);
    let error = gone.image(&wanted).await.unwrap_err().to_string();
    assert!(error.contains("an edit of source"), "{error}");
    registry.set(|script| {
        script.instead.insert("manifests/latest".into(), (429, vec![("Retry-After".into(), "7".into())]));
    });
    let error = registry.registry(None).image(&wanted).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.retry_after().map(|after| after.as_secs())),
        (reason::ORIGIN_UNAVAILABLE, Some(7))
    );
    let unspoken = Platforms::OfNodes(std::collections::BTreeSet::default());
    registry.set(|script| script.instead.clear());
    let amd = registry.put_image(("linux", "amd64"), &[b"l"], None);
    registry.put_index(&[amd], Some("latest"));
    assert_eq!(
        registry.registry(None).image(&unspoken).await.unwrap_err().reason(),
        reason::NO_SUCH_PLATFORM
    );
}
