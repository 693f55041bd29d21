use torrent::{Builder, RelPath, Version, piece_length_for};

use super::*;

/// Registered: what was listed.
#[derive(Default)]
struct Registered {
    revisions: Vec<&'static str>,
    infohashes: Vec<WireId>,
    manifests: Vec<[u8; 32]>,
    denied: Vec<WireId>,
}

impl Claims for Registered {
    fn revision(&self, name: &str) -> bool {
        self.revisions.contains(&name)
    }
    fn infohash(&self, id: &WireId) -> bool {
        self.infohashes.contains(id)
    }
    fn manifest(&self, digest: &[u8; 32]) -> bool {
        self.manifests.contains(digest)
    }
    fn denied(&self, id: &WireId) -> bool {
        self.denied.contains(id)
    }
}

fn metainfo(bytes: &[u8], version: Version) -> Metainfo {
    let builder = Builder::new(version, piece_length_for(bytes.len() as u64)).unwrap();
    let mut hasher = builder.file_hasher(1);
    hasher.update(bytes);
    builder.build(vec![(RelPath::parse("a").unwrap(), hasher.finish())]).unwrap()
}

fn checked(metainfo: &Metainfo) -> CheckedMetainfo {
    check_metainfo(metainfo.encode().into(), Infohash::Short(metainfo.wire_ids()[0])).unwrap()
}

#[test]
fn metainfo_is_found_by_all_its_names() {
    let hybrid = metainfo(b"payload", Version::Hybrid);
    let store = Store::new(1 << 20);
    assert!(store.put_metainfo(checked(&hybrid), None, Tick(0)).unwrap());
    assert!(!store.put_metainfo(checked(&hybrid), None, Tick(0)).unwrap(), "the second time it is there");
    let names = [
        hybrid.info_hash_v1().unwrap().to_string(),
        hybrid.info_hash_v2().unwrap().to_string(),
        hybrid.info_hash_v2().unwrap().truncated().to_string(),
    ];
    for name in names {
        let found = store.metainfo(Infohash::parse(&name).unwrap()).unwrap();
        assert_eq!(found.bytes, hybrid.encode());
        assert_eq!(found.infohash, hybrid.info_hash_v2().unwrap().to_string());
    }
    let digest = hybrid.content_digest().unwrap();
    assert!(store.metainfo_of_content(&digest).is_some());
    let mut other = hybrid.info_hash_v2().unwrap();
    other.0[31] ^= 1;
    assert!(store.metainfo(Infohash::Long(other)).is_none(), "all 64 digits count");
}

#[test]
fn what_is_not_what_its_name_says_is_refused() {
    let (one, other) = (metainfo(b"one", Version::V1), metainfo(b"other", Version::V1));
    let error = check_metainfo(one.encode().into(), Infohash::Short(other.wire_ids()[0])).unwrap_err();
    assert!(matches!(error, StoreError::OtherTorrent { .. }), "{error}");
    let error =
        check_metainfo(Bytes::from_static(b"d4:infoi1ee"), Infohash::Short(one.wire_ids()[0])).unwrap_err();
    assert!(matches!(error, StoreError::Metainfo(_)), "{error}");
    assert!(matches!(
        check_manifest(Bytes::from_static(b"x"), [0; 32]),
        Err(StoreError::OtherManifest { .. })
    ));
}

#[test]
fn the_limit_counts_what_is_there() {
    let (one, other) = (metainfo(b"one", Version::V1), metainfo(b"other", Version::V1));
    let store = Store::new(one.encode().len() as u64 + 10);
    store.put_metainfo(checked(&one), None, Tick(0)).unwrap();
    store.put_metainfo(checked(&one), None, Tick(0)).unwrap();
    assert!(matches!(store.put_metainfo(checked(&other), None, Tick(0)), Err(StoreError::Full { .. })));
    store.retain(&Registered::default(), Tick(u32::MAX));
    assert_eq!(store.sizes(), (0, 0, 0));
    store.put_metainfo(checked(&other), None, Tick(0)).unwrap();
}

#[test]
fn what_leaves_the_registry_is_dropped() {
    let torrent = metainfo(b"payload", Version::Hybrid);
    let manifest = check_manifest(Bytes::from_static(b"{}"), Sha256::digest(b"{}").into()).unwrap();
    let store = Store::new(1 << 20);
    store.put_metainfo(checked(&torrent), Some("rev".to_owned()), Tick(0)).unwrap();
    store.put_manifest(manifest.clone(), Some("rev".to_owned()), Tick(0)).unwrap();
    store.retain(&Registered { revisions: vec!["rev"], ..Registered::default() }, Tick(50_000));
    assert_eq!((store.sizes().0, store.sizes().1), (1, 1));
    let by_name = Registered {
        infohashes: torrent.wire_ids(),
        manifests: vec![manifest.digest],
        ..Registered::default()
    };
    store.retain(&by_name, Tick(50_000));
    assert_eq!((store.sizes().0, store.sizes().1), (1, 1));
    let denied = torrent.wire_ids()[1..].to_vec();
    store.retain(&Registered { denied, ..by_name }, Tick(50_000));
    assert_eq!((store.sizes().0, store.sizes().1), (0, 1), "by one of its names is enough");
    store.retain(&Registered::default(), Tick(0));
    assert_eq!(store.sizes(), (0, 0, 0));
    assert!(!store.has_any(&torrent.wire_ids()));
}

#[test]
fn an_unclaimed_manifest_waits_for_the_registry() {
    let manifest = check_manifest(Bytes::from_static(b"{}"), Sha256::digest(b"{}").into()).unwrap();
    let store = Store::new(1 << 20);
    store.put_manifest(manifest.clone(), None, Tick(1_000)).unwrap();
    store.retain(&Registered::default(), Tick(6_999));
    assert!(store.manifest(&manifest.digest).is_some());
    store.retain(&Registered::default(), Tick(7_000));
    assert!(store.manifest(&manifest.digest).is_none());
}
