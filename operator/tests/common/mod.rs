//! A small cluster in memory: the operator, real trackers at the addresses of their Services, an origin, and sidecars that do
//! what the tests tell them.

#![allow(dead_code)] // each test file uses a part of it

mod origin;
mod registry;
mod sidecar;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crds::{Distribution, DistributionClass, DistributionRevision, NodeDistribution};
use daemon::CancellationToken;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use memory_api::{BoundToken, MemoryApi};
use operator::{OperatorConfig, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use origin::OriginServer;
#[allow(unused_imports)] // not by all test programs
pub use registry::{ScriptedRegistry, digest};
#[allow(unused_imports)] // not by all test programs
pub use sidecar::{Built, FakeSidecar};

pub const NAMESPACE: &str = "samara-system";
/// What has not come about by then does not.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A client that trusts these alone, and needs no provider of TLS for the whole process.
pub fn http(roots: rustls::RootCertStore) -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

pub struct World {
    pub api: MemoryApi,
    pub client: Client,
    pub origin: OriginServer,
    pub stop: CancellationToken,
    /// Writes that the operator made, as `verb path`; the Lease aside.
    pub writes: Arc<Mutex<Vec<String>>>,
    operator: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    /// A cluster with these nodes. `network` keeps tests apart: their trackers listen in 127.<network>.0.0/16.
    pub async fn start(network: u8, nodes: &[&str]) -> Self {
        let api = MemoryApi::with_service_network(Ipv4Addr::new(127, network, 0, 0), 16);
        let client = api.client();
        let stop = CancellationToken::new();
        let namespace = json!({"metadata": {"name": NAMESPACE}});
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &parse(namespace))
            .await
            .unwrap();
        let world = Self {
            origin: OriginServer::start().await,
            api,
            client,
            stop,
            writes: Arc::default(),
            operator: None,
        };
        for node in nodes {
            world.add_node(node);
        }
        tokio::spawn(run_trackers(world.client.clone(), world.stop.clone()));
        let mut world = world;
        world.start_operator().await;
        world
    }

    /// The same with a class that lets fetchers read the test's origin, and its trackers running.
    pub async fn with_class(network: u8, nodes: &[&str]) -> Self {
        let world = Self::start(network, nodes).await;
        world.create_class(2).await;
        world
    }

    pub async fn create_class(&self, trackers: i32) {
        let class = json!({
            "metadata": {"name": "default"},
            "spec": {"root": "/var/lib/samara", "trackers": {"replicas": trackers}, "origin": {"allow": ["127.0.0.0/8"]}}
        });
        self.classes().create(&PostParams::default(), &parse(class)).await.unwrap();
        self.until("the class is ready", async || {
            let status = self.classes().get("default").await.unwrap().status.unwrap_or_default();
            status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
                && status.operator.is_some()
        })
        .await;
    }

    pub async fn start_operator(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            namespace: NAMESPACE.into(),
            public_url: format!("https://{}", listener.local_addr().unwrap()),
            image: "samara:test".into(),
            image_pull_secrets: vec![],
            sidecar_service_account: "samara-sidecar".into(),
            identity: format!("operator-{}", listener.local_addr().unwrap().port()),
            manage_crds: false,
            api_server: vec![],
        };
        let writes = self.writes.clone();
        self.api.intercept(move |call| {
            let written = matches!(call.verb, "create" | "update" | "patch" | "delete" | "deletecollection");
            if written && !call.path.contains("/leases") && !call.path.contains("tokenreviews") {
                writes.lock().unwrap().push(format!("{} {}", call.verb, call.path));
            }
            Ok(())
        });
        let stop = CancellationToken::new();
        let config = OperatorConfig { client: self.api.client(), settings, api: listener, health: None };
        self.operator = Some((stop.clone(), tokio::spawn(operator::run(config, stop))));
    }

    /// Ends the operator in good order.
    pub async fn stop_operator(&mut self) {
        let (stop, task) = self.operator.take().unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    pub fn add_node(&self, name: &str) {
        self.add_node_of(name, "amd64");
    }

    pub fn add_node_of(&self, name: &str, architecture: &str) {
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "nodeInfo": {"operatingSystem": "linux", "architecture": architecture},
            },
        });
        self.api.seed(&parse::<Node>(node)).unwrap();
        let pod = json!({
            "metadata": {
                "name": format!("samara-sidecar-{name}"), "namespace": NAMESPACE,
                "labels": {"app.kubernetes.io/component": "sidecar", "samara.dev/class": "default"},
            },
            "spec": {"nodeName": name, "containers": [{"name": "sidecar"}]},
            "status": {
                "phase": "Running", "podIP": "127.78.0.1", "podIPs": [{"ip": "127.78.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        let pod: Pod = self.api.seed(&parse(pod)).unwrap();
        self.api.add_token(format!("token-{name}"), Self::bound(name, &pod, "samara.dev"));
    }

    pub fn bound(node: &str, pod: &Pod, audience: &str) -> BoundToken {
        BoundToken {
            audiences: vec![audience.into()],
            namespace: NAMESPACE.into(),
            service_account: "samara-sidecar".into(),
            pod: pod.metadata.name.clone().unwrap(),
            pod_uid: pod.metadata.uid.clone().unwrap(),
            node: node.into(),
        }
    }

    /// Sets a node's Ready condition as of so many seconds ago.
    pub async fn set_node_ready(&self, name: &str, ready: bool, seconds_ago: i64) {
        let since = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
        let status = if ready { "True" } else { "Unknown" };
        let patch = json!({"status": {"conditions": [
            {"type": "Ready", "status": status, "lastTransitionTime": since.to_string()}
        ]}});
        let api: Api<Node> = Api::all(self.client.clone());
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete_pod(&self, node: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        pods.delete(&format!("samara-sidecar-{node}"), &DeleteParams::default()).await.unwrap();
    }

    pub fn classes(&self) -> Api<DistributionClass> {
        Api::all(self.client.clone())
    }

    pub fn distributions(&self) -> Api<Distribution> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub fn revisions(&self) -> Api<DistributionRevision> {
        Api::all(self.client.clone())
    }

    pub fn reports(&self) -> Api<NodeDistribution> {
        Api::all(self.client.clone())
    }

    /// Applies a Distribution of these files.
    pub async fn distribute(&self, name: &str, files: Value) -> Distribution {
        let object = json!({"metadata": {"name": name}, "spec": {"source": {"http": {"files": files}}}});
        self.distributions().create(&PostParams::default(), &parse(object)).await.unwrap()
    }

    pub async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.distributions().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn distribution(&self, name: &str) -> Distribution {
        self.distributions().get(name).await.unwrap()
    }

    /// `(status, reason, message)` of a condition.
    pub async fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let status = self.distribution(name).await.status.unwrap_or_default();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|c| (c.status, c.reason, c.message)).unwrap_or_default()
    }

    pub async fn until_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let what = format!("{name}: {kind}={status} {reason}");
        self.until(&what, async || {
            let (now, why, _) = self.condition(name, kind).await;
            now == status && (reason.is_empty() || why == reason)
        })
        .await;
        self.condition(name, kind).await.2
    }

    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            if tokio::time::Instant::now() > deadline {
                let seen = self.distributions().list(&ListParams::default()).await.unwrap();
                panic!(
                    "not within {PATIENCE:?}: {what}\n{}",
                    serde_json::to_string_pretty(&seen.items).unwrap()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The current revision, once there is one that fits.
    pub async fn revision(&self, fits: impl Fn(&DistributionRevision) -> bool) -> DistributionRevision {
        let mut found = None;
        self.until("a revision that fits", async || {
            let all = self.revisions().list(&ListParams::default()).await.unwrap();
            found = all.items.into_iter().find(|revision| revision.spec.policy.current && fits(revision));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// The one that was elected, as a sidecar that can talk.
    pub async fn fetcher(&self, revision: &str) -> FakeSidecar {
        let elected = self
            .revision(|r| r.metadata.name.as_deref() == Some(revision) && !r.spec.policy.fetchers.is_empty())
            .await;
        self.sidecar(&elected.spec.policy.fetchers[0]).await
    }

    pub async fn sidecar(&self, node: &str) -> FakeSidecar {
        FakeSidecar::new(self, node, &format!("token-{node}")).await
    }

    /// Fetches, completes, and has every node report it Ready.
    pub async fn carry_through(&self, revision: &str, nodes: &[&str]) {
        let fetcher = self.fetcher(revision).await;
        fetcher.fetch_and_complete(revision).await;
        for node in nodes {
            self.sidecar(node).await.report(revision, "Ready").await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some((stop, _)) = &self.operator {
            stop.cancel();
        }
    }
}

pub fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// What Deployments would do: one tracker at the address of each tracker Service.
async fn run_trackers(client: Client, stop: CancellationToken) {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
    let mut running = std::collections::BTreeMap::<String, CancellationToken>::new();
    while !stop.is_cancelled() {
        let names: Vec<String> = deployments
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .into_iter()
            .filter_map(|deployment| deployment.metadata.name)
            .collect();
        running.retain(|name, stop| {
            let stays = names.contains(name);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for name in names.clone() {
            let (Ok(Some(service)), Ok(Some(secret))) =
                (services.get_opt(&name).await, secrets.get_opt("samara-tracker-default").await)
            else {
                continue;
            };
            if running.contains_key(&name) {
                continue;
            }
            let address = service.spec.unwrap().cluster_ip.unwrap();
            let token = secret.data.unwrap()["token"].0.clone();
            let mut siblings = Vec::new();
            for other in names.iter().filter(|other| **other != name) {
                let Ok(Some(service)) = services.get_opt(other).await else { continue };
                siblings.push(format!("http://{}:6969", service.spec.unwrap().cluster_ip.unwrap()));
            }
            let config = tracker::Config {
                siblings,
                token: Some(tracker::Token::new(std::str::from_utf8(&token).unwrap()).unwrap()),
                ..tracker::Config::default()
            };
            let listener = TcpListener::bind(format!("{address}:6969")).await.unwrap();
            let end = stop.child_token();
            let (tracker, ended) = (tracker::Tracker::new(config).unwrap(), end.clone());
            tokio::spawn(async move { tracker.serve(listener, ended).await });
            running.insert(name, end);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
