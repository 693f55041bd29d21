//! Two real trackers, an in-memory API, an origin, a scripted operator, and as many sidecars as wanted.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use crds::{
    CLASS_LABEL, ClassTrackerStatus, Content, DistributionClass, DistributionClassSpec,
    DistributionClassStatus, DistributionRef, DistributionRevision, DistributionRevisionSpec, Ingest,
    NodeDistribution, NodeEntry, NodePhase, OperatorEndpoint, RevisionImage, RevisionPolicy, Torrent,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use memory_api::MemoryApi;
use operator_api::{Authorization, Grant, GrantedFile, GrantedIngest, OriginPolicy, TorrentVersion};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sidecar::{ImagesConfig, SidecarConfig, TokenSource};
use swarm::TrackerSpec;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;
use torrent::{RelPath, Version, piece_length_for};
use tracker_api::{RegisteredNode, RegisteredSwarm, Registry, SwarmReport};

use crate::operator::FakeOperator;

pub const CLASS: &str = "default";
const ROOT: &str = "/var/lib/samara";
const TOKEN: &str = "tracker-token";

pub struct Cluster {
    pub memory: MemoryApi,
    pub client: kube::Client,
    pub operator: FakeOperator,
    pub trackers: Vec<String>,
    /// Payload bytes that the origin gave.
    pub origin_bytes: Arc<AtomicU64>,
    /// What the next grants have to show to the origin.
    pub authorization: Option<Authorization>,
    /// What the next revisions are images of.
    pub image: Option<RevisionImage>,
    /// How the next sidecars have to do with images.
    pub images: Option<ImagesConfig>,
    origin: String,
    folder: tempfile::TempDir,
    registry: Registry,
    stop: CancellationToken,
}

pub struct Unit {
    pub root: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<Result<(), sidecar::SidecarError>>,
}

impl Unit {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub fn link(&self, name: &str) -> PathBuf {
        self.root.join("datasets/ns").join(name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Bytes of a file of the origin: they follow from its name, `<seed>-<length>`.
pub fn bytes_of(name: &str) -> Vec<u8> {
    let (seed, length) = name.split_once('-').unwrap();
    let mut state: u32 = seed.bytes().fold(7, |state, byte| state.wrapping_mul(31) + u32::from(byte));
    (0..length.parse().unwrap())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

impl Cluster {
    pub async fn start() -> Self {
        let stop = CancellationToken::new();
        let memory = MemoryApi::new();
        let client = memory.client();
        let operator = FakeOperator::start(stop.clone()).await;
        TOKEN.clone_into(&mut operator.script.lock().unwrap().tracker_token);
        let mut trackers = Vec::new();
        for _ in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            trackers.push(format!("http://{}", listener.local_addr().unwrap()));
            let token = Some(tracker::Token::new(TOKEN).unwrap());
            let config = tracker::Config { token, ..tracker::Config::default() };
            let (tracker, stopped) = (tracker::Tracker::new(config).unwrap(), stop.clone());
            tokio::spawn(async move { tracker.serve(listener, stopped).await });
        }
        let origin_bytes = Arc::new(AtomicU64::new(0));
        let origin = origin(Arc::clone(&origin_bytes)).await;
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        let cluster = Self {
            memory,
            client,
            operator,
            trackers,
            origin_bytes,
            authorization: None,
            image: None,
            images: None,
            origin,
            folder,
            registry,
            stop,
        };
        cluster.make_class().await;
        cluster
    }

    async fn make_class(&self) {
        let spec: DistributionClassSpec = serde_json::from_value(json!({ "root": ROOT })).unwrap();
        let classes: Api<DistributionClass> = Api::all(self.client.clone());
        classes.create(&PostParams::default(), &DistributionClass::new(CLASS, spec)).await.unwrap();
        let tracker = |(i, url): (usize, &String)| ClassTrackerStatus {
            name: format!("t{i}"),
            url: url.clone(),
            ready: true,
        };
        let status = DistributionClassStatus {
            operator: Some(OperatorEndpoint {
                url: self.operator.url.clone(),
                ca_bundle: self.operator.ca.clone(),
            }),
            trackers: self.trackers.iter().enumerate().map(tracker).collect(),
            ..DistributionClassStatus::default()
        };
        let patch = Patch::Merge(json!({ "status": status }));
        classes.patch_status(CLASS, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn patch_class(&self, spec: Value) {
        let classes: Api<DistributionClass> = Api::all(self.client.clone());
        classes.patch(CLASS, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await.unwrap();
    }

    /// Makes the node, if it is new, and starts its sidecar.
    pub async fn sidecar(&mut self, node: &str) -> Unit {
        self.sidecar_with(node, self.client.clone()).await
    }

    pub async fn sidecar_with(&mut self, node: &str, client: kube::Client) -> Unit {
        let root = self.folder.path().join(node);
        std::fs::create_dir_all(&root).unwrap();
        self.node(node).await;
        let token = TokenSource::Fixed(node.to_owned());
        let mut config = SidecarConfig::new(client, node, CLASS, root.clone(), token);
        config.class_root = Some(ROOT.to_owned());
        config.listen_peer = vec!["127.0.0.1:0".parse().unwrap()];
        config.listen_health = Vec::new();
        config.images.clone_from(&self.images);
        let stop = self.stop.child_token();
        let task = tokio::spawn(sidecar::run(config, stop.clone()));
        Unit { root, stop, task }
    }

    /// Makes the node, if it is new: the trackers know it then.
    pub async fn node(&mut self, node: &str) {
        if self.registry.nodes.iter().any(|known| known.name == node) {
            return;
        }
        let object: Node = serde_json::from_value(json!({ "metadata": { "name": node } })).unwrap();
        self.memory.seed(&object).unwrap();
        let addresses = vec!["127.0.0.1".parse().unwrap()];
        self.registry.nodes.push(RegisteredNode { name: node.into(), addresses, zone: None });
        self.register().await;
    }

    async fn register(&self) {
        for tracker in &self.trackers {
            let request = http().put(format!("{tracker}{}", tracker_api::REGISTRY_PATH)).bearer_auth(TOKEN);
            assert!(request.json(&self.registry).send().await.unwrap().status().is_success());
        }
    }

    /// A revision of `Distribution` ns/`name` whose files are (path, name at the origin), to be fetched by `fetcher`.
    pub async fn revision(&mut self, revision: &str, name: &str, files: &[(&str, &str)], fetcher: &str) {
        let files = self.granted(files);
        self.make(revision, name, files, &[fetcher], None).await;
    }

    /// As [`Self::revision`], shared while it is read, by several fetchers.
    pub async fn growing(
        &mut self,
        revision: &str,
        name: &str,
        files: &[(&str, &str)],
        fetchers: &[&str],
        epoch: u32,
    ) {
        let files = self.granted(files);
        let ingest = ingest_of(revision, &files, epoch);
        self.make(revision, name, files, fetchers, Some(ingest)).await;
    }

    /// What the operator does when what was read proves wrong: the same revision, another ingest.
    pub async fn begin_anew(
        &mut self,
        revision: &str,
        files: &[(&str, &str)],
        fetchers: &[&str],
        epoch: u32,
    ) {
        let files = self.granted(files);
        let ingest = ingest_of(revision, &files, epoch);
        let old = self.operator.script.lock().unwrap().grants.values().next().cloned().unwrap();
        let grant = Grant { files, ingest: Some(ingest.clone()), id: format!("{}-{epoch}", old.id), ..old };
        self.grant(revision, &grant, fetchers);
        let swarm = self.registry.swarms.iter_mut().find(|swarm| swarm.revisions[0] == revision).unwrap();
        swarm.infohashes = vec![ingest.id.clone()];
        self.register().await;
        let policy = json!({ "fetchers": fetchers, "ingest": { "id": ingest.id, "epoch": epoch } });
        self.patch(revision, json!({ "policy": policy })).await;
    }

    pub fn granted(&self, files: &[(&str, &str)]) -> Vec<GrantedFile> {
        let file = |(path, source): &(&str, &str)| GrantedFile {
            path: (*path).to_owned(),
            url: format!("{}/{source}", self.origin),
            text: None,
            size: source.split_once('-').unwrap().1.parse().unwrap(),
            sha256: match path.split_once('/').map_or(*path, |(first, _)| first) {
                "declared" => Some(hex::encode(Sha256::digest(bytes_of(source)))),
                // And not so.
                "wrong" => Some("00".repeat(32)),
                _ => None,
            },
            etag: Some(format!("\"{source}\"")),
            last_modified: None,
        };
        files.iter().map(file).collect()
    }

    /// As [`Self::revision`], of files that were granted anyhow.
    pub async fn make(
        &mut self,
        revision: &str,
        name: &str,
        files: Vec<GrantedFile>,
        fetchers: &[&str],
        ingest: Option<GrantedIngest>,
    ) {
        let bytes = files.iter().map(|file| file.size as i64).sum();
        let spec = DistributionRevisionSpec {
            distribution: DistributionRef {
                namespace: "ns".into(),
                name: name.into(),
                uid: format!("uid-{name}"),
            },
            class_name: CLASS.into(),
            content: Content {
                pin: "0".repeat(64),
                bytes,
                files: files.len() as i64,
                image: self.image.clone(),
            },
            torrents: Vec::new(),
            manifest_digest: None,
            policy: RevisionPolicy {
                current: true,
                fetchers: fetchers.iter().map(|&node| node.into()).collect(),
                ingest: ingest
                    .as_ref()
                    .map(|ingest| Ingest { id: ingest.id.clone(), epoch: ingest.epoch as i32 }),
                ..RevisionPolicy::default()
            },
        };
        let grant = Grant {
            id: format!("grant-{revision}"),
            expires_in_seconds: 30,
            files,
            origin_policy: OriginPolicy { allow: vec!["127.0.0.0/8".into()], deny: Vec::new() },
            torrent_version: TorrentVersion::Hybrid,
            expected_digest: None,
            bandwidth_per_second: None,
            ingest,
            authorization: self.authorization.clone(),
        };
        self.grant(revision, &grant, fetchers);
        self.registry.swarms.push(RegisteredSwarm {
            revisions: vec![revision.into()],
            infohashes: grant.ingest.iter().map(|ingest| ingest.id.clone()).collect(),
            manifest: None,
        });
        self.register().await;
        let mut object = DistributionRevision::new(revision, spec);
        object.labels_mut().insert(CLASS_LABEL.into(), CLASS.into());
        self.revisions().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Gives each of these nodes its seat.
    pub fn grant(&self, revision: &str, grant: &Grant, fetchers: &[&str]) {
        let mut script = self.operator.script.lock().unwrap();
        script.grants.retain(|(of, _), _| of != revision);
        for (index, node) in fetchers.iter().enumerate() {
            let mut grant = grant.clone();
            if let Some(ingest) = &mut grant.ingest {
                (ingest.index, ingest.of) = (index as u32, fetchers.len() as u32);
            }
            script.grants.insert((revision.into(), (*node).into()), grant);
        }
    }

    /// Waits for the fetcher, then does what the operator does with its word.
    pub async fn build(&mut self, revision: &str) {
        let script = Arc::clone(&self.operator.script);
        let completed = eventually("the fetch is complete", || {
            let completed = script.lock().unwrap().completed.get(revision).cloned();
            async move { completed }
        })
        .await;
        let swarm = self.registry.swarms.iter_mut().find(|swarm| swarm.revisions[0] == revision).unwrap();
        let known = [&completed.info_hash_v1, &completed.info_hash_v2];
        swarm.infohashes.splice(0..0, known.into_iter().flatten().cloned());
        swarm.manifest = Some(completed.manifest_digest.clone());
        self.register().await;
        let torrent = Torrent {
            info_hash_v1: completed.info_hash_v1,
            info_hash_v2: completed.info_hash_v2,
            bytes: completed.bytes as i64,
        };
        let digest = completed.manifest_digest;
        self.patch(
            revision,
            json!({ "torrents": [torrent], "manifestDigest": digest, "policy": { "fetchers": [] } }),
        )
        .await;
    }

    pub async fn patch(&self, revision: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.revisions().patch(revision, &PatchParams::default(), &patch).await.unwrap();
    }

    pub fn revisions(&self) -> Api<DistributionRevision> {
        Api::all(self.client.clone())
    }

    pub async fn report(&self, node: &str) -> Option<NodeDistribution> {
        Api::<NodeDistribution>::all(self.client.clone()).get_opt(node).await.unwrap()
    }

    pub async fn entry(&self, node: &str, revision: &str) -> Option<NodeEntry> {
        let status = self.report(node).await?.status?;
        status.revisions.into_iter().find(|entry| entry.revision == revision)
    }

    /// Waits until the node's entry is in this phase, for this reason.
    pub async fn wait(
        &self,
        node: &str,
        revision: &str,
        phase: NodePhase,
        reason: Option<&str>,
    ) -> NodeEntry {
        eventually(&format!("{revision} is {phase:?} on {node} ({reason:?})"), || async {
            let entry = self.entry(node, revision).await?;
            (entry.phase == phase && entry.reason.as_deref() == reason).then_some(entry)
        })
        .await
    }

    pub async fn ready(&self, node: &str, revision: &str) -> NodeEntry {
        self.wait(node, revision, NodePhase::Ready, None).await
    }

    pub async fn gone(&self, node: &str, revision: &str) {
        eventually(&format!("{revision} is gone from {node}"), || async {
            self.entry(node, revision).await.is_none().then_some(())
        })
        .await;
    }

    /// Nodes that the first tracker knows as seeds of anything.
    pub async fn seeds(&self) -> Vec<String> {
        let url = format!("{}{}", self.trackers[0], tracker_api::SWARMS_PATH);
        let swarms: Vec<SwarmReport> =
            http().get(url).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
        let peers = swarms.into_iter().flat_map(|swarm| swarm.peers);
        peers.filter(|peer| peer.left == 0).filter_map(|peer| peer.node).collect()
    }

    /// The trackers as an engine of a node takes them.
    pub fn tracker_specs(&self, node: &str) -> Vec<TrackerSpec> {
        let spec = |tracker: &String| TrackerSpec {
            url: format!("{tracker}/announce"),
            bearer: Some(TOKEN.to_owned()),
            node: Some(node.to_owned()),
        };
        self.trackers.iter().map(spec).collect()
    }

    pub fn origin_bytes(&self) -> u64 {
        self.origin_bytes.load(Ordering::Relaxed)
    }
}

/// What the operator grants of an ingest of these files; the warrant follows when a node says its key.
pub fn ingest_of(revision: &str, files: &[GrantedFile], epoch: u32) -> GrantedIngest {
    let outline = outline_of(revision, files, epoch);
    let (id, key, warrant) = (outline.id().to_string(), outline.key().to_string(), String::new());
    GrantedIngest { id, epoch, key, warrant, index: 0, of: 1 }
}

/// What the nodes share these files by.
pub fn outline_of(revision: &str, files: &[GrantedFile], epoch: u32) -> Outline {
    let key = crate::operator::opener().public();
    let paths = files.iter().map(|file| (RelPath::parse(&file.path).unwrap(), file.size)).collect();
    let length = piece_length_for(files.iter().map(|file| file.size).sum());
    let declared = files.iter().filter_map(|f| Some((RelPath::parse(&f.path).unwrap(), f.declared()?)));
    let outline = Outline::new(revision, epoch, key, Version::Hybrid, length, paths).unwrap();
    outline.declaring(&declared.collect())
}

/// Waits for something, but not for ever.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain: {what}");
}

pub fn same(folder: &Path, files: &[(&str, &str)]) -> bool {
    files.iter().all(|(path, source)| std::fs::read(folder.join(path)).is_ok_and(|b| b == bytes_of(source)))
}

/// A client that needs no provider of TLS for the whole process.
pub fn http() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// Serves `bytes_of` every path, with ranges; names that begin with `whole` without. Names that begin with `slow` come at 1 MB/s.
async fn origin(given: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let get = move |axum::extract::Path(name): axum::extract::Path<String>, headers: HeaderMap| {
        let given = Arc::clone(&given);
        async move { serve(&name, &headers, given) }
    };
    let router = axum::Router::new().route("/{name}", axum::routing::get(get));
    tokio::spawn(daemon::serve(listener, router, daemon::ServeOptions::default(), CancellationToken::new()));
    url
}

fn serve(name: &str, headers: &HeaderMap, given: Arc<AtomicU64>) -> Response<Body> {
    let bytes = bytes_of(name);
    let range = headers.get("range").filter(|_| !name.starts_with("whole"));
    let range = range.and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let from: usize = range.and_then(|(from, _)| from.parse().ok()).unwrap_or(0);
    let until = range.and_then(|(_, last)| last.parse::<usize>().ok()).map_or(bytes.len(), |last| last + 1);
    let mut answer =
        Response::builder().header("etag", format!("\"{name}\"")).header("content-length", until - from);
    if range.is_some() {
        let range = format!("bytes {from}-{}/{}", until - 1, bytes.len());
        answer = answer.status(206).header("content-range", range);
    }
    let slow = name.starts_with("slow");
    let chunks: Vec<Vec<u8>> = bytes[from..until].chunks(64 << 10).map(<[u8]>::to_vec).collect();
    let stream = futures::stream::unfold(chunks.into_iter(), move |mut chunks| {
        let given = Arc::clone(&given);
        async move {
            let chunk = chunks.next()?;
            if slow {
                tokio::time::sleep(Duration::from_millis(64)).await;
            }
            given.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Some((Ok::<_, std::io::Error>(chunk), chunks))
        }
    });
    answer.body(Body::from_stream(stream)).unwrap()
}
