use proptest::prelude::*;
use serde_json::{Value, json};

use crate::registry::document::{Document, MAX_ENTRIES, config_platform, parse};
use crate::registry::strict::check_spelling;
use crate::registry::{Platform, Platforms};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn digest(n: u8) -> String {
    format!("sha256:{}", format!("{n:02x}").repeat(32))
}

fn layer(n: u8) -> Value {
    json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(n), "size": 10})
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(1), "size": 5},
        "layers": [layer(2), layer(3)],
    })
}

fn entry(n: u8, os: &str, architecture: &str, variant: Option<&str>) -> Value {
    let mut platform = json!({"os": os, "architecture": architecture});
    if let Some(variant) = variant {
        platform["variant"] = variant.into();
    }
    json!({"mediaType": OCI_MANIFEST, "digest": digest(n), "size": 7, "platform": platform})
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

fn read(document: &Value, said: Option<&str>) -> Result<(Document, String), String> {
    parse(document.to_string().as_bytes(), said)
}

fn with(document: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut document = document.clone();
    change(&mut document);
    document
}

#[test]
fn oci_and_docker_documents_are_read() {
    let (Document::Manifest(read_back), kind) = read(&manifest(), Some(OCI_MANIFEST)).unwrap() else {
        panic!()
    };
    assert_eq!((read_back.layers.len(), read_back.config.size, kind.as_str()), (2, 5, OCI_MANIFEST));
    let docker = with(&manifest(), |m| {
        m["mediaType"] = DOCKER_MANIFEST.into();
        m["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    });
    assert_eq!(read(&docker, Some("application/json")).unwrap().1, DOCKER_MANIFEST);
    let bare = with(&manifest(), |m| drop(m.as_object_mut().unwrap().remove("mediaType")));
    assert_eq!(read(&bare, None).unwrap().1, OCI_MANIFEST, "OCI 1.0 had no mediaType inside");
    assert_eq!(read(&bare, Some(&format!("{OCI_MANIFEST}; charset=utf-8"))).unwrap().1, OCI_MANIFEST);
    let list = with(&index(&[entry(4, "linux", "amd64", None)]), |i| i["mediaType"] = DOCKER_LIST.into());
    assert!(
        matches!(read(&list, Some(DOCKER_LIST)).unwrap(), (Document::Index(entries), _) if entries.len() == 1)
    );
}

#[test]
fn t090_documents_that_mean_two_things_are_refused() {
    let both = with(&manifest(), |m| m["manifests"] = json!([entry(4, "linux", "amd64", None)]));
    for said in [OCI_MANIFEST, OCI_INDEX] {
        assert!(read(&both, Some(said)).is_err());
    }
    let both = with(&both, |m| m["mediaType"] = OCI_INDEX.into());
    assert!(read(&both, None).unwrap_err().contains("neither"));
    let called = read(&manifest(), Some(OCI_INDEX)).unwrap_err();
    assert!(called.contains("calls itself"), "{called}");
    let text = manifest().to_string();
    let twice = text.replacen("\"layers\":", "\"layers\":[],\"layers\":", 1);
    assert!(parse(twice.as_bytes(), None).unwrap_err().contains("twice"));
    let inner = text.replacen("\"size\":10", "\"size\":10,\"size\":11", 1);
    assert!(parse(inner.as_bytes(), None).unwrap_err().contains("twice"));
    let escaped = text.replacen("\"size\":10", "\"size\":10,\"\\u0073ize\":11", 1);
    assert!(parse(escaped.as_bytes(), None).unwrap_err().contains("twice"));
    for odd in ["\"Layers\":[],\"layers\":", "\"Manifests\":[],\"layers\":"] {
        let text = text.replacen("\"layers\":", odd, 1);
        assert!(parse(text.as_bytes(), None).unwrap_err().contains("spelled"), "{odd}");
    }
    let odd = text.replacen("\"size\":10", "\"size\":10,\"Digest\":\"x\"", 1);
    assert!(parse(odd.as_bytes(), None).unwrap_err().contains("spelled"));
    let config = text.replacen("\"config\":", "\"manifest\":[],\"config\":", 1);
    assert!(parse(config.as_bytes(), None).is_ok(), "a name that nobody knows means nothing");
}

/// Go folds by Unicode: the long s and the Kelvin sign are letters of names.
#[test]
fn t090_names_in_letters_that_fold_into_ascii_are_refused() {
    let text = manifest().to_string();
    for (name, odd) in [
        ("\"size\":10", "\"size\":10,\"ſize\":11"),
        ("\"size\":10", "\"size\":10,\"\\u017fize\":11"),
        ("\"size\":10", "\"ſIZE\":10"),
        ("\"digest\":", "\"digeſt\":\"x\",\"digest\":"),
        ("\"layers\":", "\"layerſ\":[],\"layers\":"),
        ("\"schemaVersion\":", "\"ſchemaVerſion\":1,\"schemaVersion\":"),
    ] {
        let text = text.replacen(name, odd, 1);
        assert!(parse(text.as_bytes(), None).unwrap_err().contains("spelled"), "{odd}");
    }
    for (document, fine) in [
        (r#"{"os": "linux", "architecture": "arm64"}"#, true),
        (r#"{"os": "linux", "oſ": "windows", "architecture": "arm64"}"#, false),
        (r#"{"os": "linux", "architecture": "arm64", "Architecture": "amd64"}"#, false),
    ] {
        assert_eq!(config_platform(document.as_bytes()).is_ok(), fine, "{document}");
    }
    let kelvin = serde_json::json!({"to\u{212a}en": 1, "\u{130}": 2});
    assert!(check_spelling(kelvin.as_object().unwrap(), &["token"]).is_err());
    assert!(check_spelling(kelvin.as_object().unwrap(), &["i", "id"]).is_ok());
}

#[test]
fn t091_descriptors_are_held_to_the_letter() {
    let refused = |change: &dyn Fn(&mut Value)| {
        read(&with(&manifest(), |m| change(&mut m["layers"][0])), None).unwrap_err()
    };
    assert!(refused(&|l| l["digest"] = format!("sha512:{}", "ab".repeat(64)).into()).contains("only sha256"));
    assert!(refused(&|l| l["digest"] = "sha256:xyz".into()).contains("64 lower-case"));
    assert!(refused(&|l| l["digest"] = digest(0xab).to_uppercase().into()).contains("digest"));
    assert!(refused(&|l| l["size"] = 0.into()).contains("size 0"));
    assert!(refused(&|l| l["size"] = (-1).into()).contains("descriptor"));
    assert!(refused(&|l| l["size"] = u64::MAX.into()).contains("size"));
    assert!(refused(&|l| l["size"] = "10".into()).contains("descriptor"));
    assert!(refused(&|l| drop(l.as_object_mut().unwrap().remove("digest"))).contains("digest"));
    assert!(refused(&|l| *l = json!(7)).contains("object"));
}

#[test]
fn t092_long_lists_and_deep_documents_are_refused() {
    let many = |count: usize| with(&manifest(), |m| m["layers"] = vec![layer(2); count].into());
    read(&many(MAX_ENTRIES), None).unwrap();
    assert!(read(&many(MAX_ENTRIES + 1), None).unwrap_err().contains("513 layers"));
    let entries = vec![entry(4, "linux", "amd64", None); MAX_ENTRIES + 1];
    assert!(read(&index(&entries), None).unwrap_err().contains("513 manifests"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(deep.as_bytes(), None).is_err());
}

#[test]
fn t093_layers_that_lie_elsewhere_are_marked() {
    let foreign = with(&manifest(), |m| {
        m["layers"][0]["urls"] = json!(["https://evil.example/x"]);
        m["layers"][1]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
        m["layers"].as_array_mut().unwrap().push(with(&layer(9), |l| {
            l["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
        }));
        m["layers"].as_array_mut().unwrap().push(layer(8));
    });
    let (Document::Manifest(manifest), _) = read(&foreign, None).unwrap() else { panic!() };
    assert_eq!(
        manifest.layers.iter().map(|layer| layer.foreign).collect::<Vec<_>>(),
        [true, true, true, false]
    );
}

#[test]
fn what_is_no_image_is_said() {
    let artifact =
        with(&manifest(), |m| m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into());
    assert!(read(&artifact, None).unwrap_err().contains("artifact"));
    let empty = with(&manifest(), |m| m["layers"] = json!([]));
    assert!(read(&empty, None).unwrap_err().contains("no layers"));
    for old in [
        json!({"schemaVersion": 1, "fsLayers": [], "name": "x"}),
        with(&manifest(), |m| m["schemaVersion"] = 1.into()),
    ] {
        assert!(read(&old, None).unwrap_err().contains("schema 1"), "{old}");
    }
    let signed =
        read(&json!({"schemaVersion": 1}), Some("application/vnd.docker.distribution.manifest.v1+prettyjws"));
    assert!(signed.unwrap_err().contains("push the image again"));
    for text in
        ["", "[]", "null", "{}", "{\"schemaVersion\": 2}", "{\"schemaVersion\": 2, \"manifests\": {}}"]
    {
        assert!(parse(text.as_bytes(), None).is_err(), "{text:?}");
    }
    assert!(read(&manifest(), Some("text/html")).is_err());
}

fn chosen(entries: &[(&str, u8)], wanted: &Platforms) -> Result<Vec<u8>, usize> {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(platform, n)| {
            let parts: Vec<&str> = platform.split('/').collect();
            entry(*n, parts[0], parts[1], parts.get(2).copied())
        })
        .collect();
    let (Document::Index(entries), _) = read(&index(&entries), None).unwrap() else { panic!() };
    let entries: Vec<_> = entries.into_iter().map(|entry| (entry.platform.clone().unwrap(), entry)).collect();
    let found = wanted.choose(&entries).map_err(|missing| missing.len())?;
    let mut found: Vec<u8> =
        found.iter().map(|(_, entry)| u8::from_str_radix(&entry.digest.hex()[..2], 16).unwrap()).collect();
    found.sort_unstable();
    Ok(found)
}

#[test]
fn platforms_are_chosen_by_variant_and_without() {
    let set = |all: &[&str]| all.iter().map(|text| Platform::parse(text).unwrap()).collect();
    let has = [
        ("linux/amd64", 1),
        ("linux/amd64/v3", 2),
        ("linux/arm/v6", 3),
        ("linux/arm/v7", 4),
        ("linux/arm64/v8", 5),
        ("unknown/unknown", 6),
    ];
    let nodes = |all: &[&str]| chosen(&has, &Platforms::OfNodes(set(all)));
    assert_eq!(nodes(&["linux/amd64"]), Ok(vec![1]));
    assert_eq!(nodes(&["linux/arm"]), Ok(vec![3, 4]), "a node does not tell its variant");
    assert_eq!(nodes(&["linux/arm64", "linux/amd64"]), Ok(vec![1, 5]));
    assert_eq!(nodes(&["linux/amd64", "linux/s390x"]), Ok(vec![1]), "those that the image has");
    assert_eq!(nodes(&["linux/s390x"]), Err(1));
    let all = |all: &[&str]| chosen(&has, &Platforms::All(set(all)));
    assert_eq!(all(&["linux/amd64/v3"]), Ok(vec![2]));
    assert_eq!(all(&["linux/x86_64", "linux/aarch64"]), Ok(vec![1, 5]));
    assert_eq!(all(&["linux/amd64/v4"]), Err(1));
    assert_eq!(all(&["linux/amd64", "linux/s390x"]), Err(1), "what is named has to be there");
    for wrong in ["", "linux", "linux/", "/amd64", "a/b/c/d", "a/b/", "a/b c", "a/ſ", "a\n/b"] {
        assert_eq!(Platform::parse(wrong), None, "{wrong:?}");
    }
}

/// From the tests of containerd's `platforms`.
#[test]
fn platforms_go_by_one_name() {
    for (written, usual) in [
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64/v2", "linux/amd64/v2"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm", "linux/arm"),
        ("macOS/arm64", "darwin/arm64"),
    ] {
        assert_eq!(Platform::parse(written).unwrap().to_string(), usual, "{written}");
    }
}

#[test]
fn what_an_image_says_of_its_platform_is_read_as_runtimes_do() {
    let of = |platform: Value| {
        let mut entry = entry(1, "linux", "amd64", None);
        entry["platform"] = platform;
        let (Document::Index(entries), _) = read(&index(&[entry]), None).unwrap() else { panic!() };
        entries[0].platform.as_ref().map(ToString::to_string)
    };
    assert_eq!(of(json!({"os": "linux", "architecture": "arm"})).unwrap(), "linux/arm/v7");
    assert_eq!(of(json!({"os": "linux", "architecture": "arm", "variant": "6"})).unwrap(), "linux/arm/v6");
    for odd in [json!({}), json!({"os": "linux"}), json!({"os": "linux", "architecture": "a\nb"})] {
        assert_eq!(of(odd.clone()), None, "{odd}");
    }
    // It would not fit into a revision.
    assert_eq!(of(json!({"os": "linux", "architecture": "arm", "variant": "v".repeat(33)})), None);
    assert!(config_platform(b"{}").unwrap_err().contains("os and architecture"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes, None));
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic(at in 0usize..400, byte in any::<u8>()) {
        let mut text = manifest().to_string().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        drop(parse(&text, Some(OCI_MANIFEST)));
    }
}
