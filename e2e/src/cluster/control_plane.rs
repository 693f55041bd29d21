//! etcd, kube-apiserver, the controllers, the scheduler and the DNS, in the namespace `cp`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::net::Namespace;
use super::pki::Pki;
use super::process::{Daemon, until};
use super::slot::Slot;
use xtask::tools::Tools;

/// From the first process to `/readyz`; measured: 4 s idle, several times that beside a compiler.
const READY_TIMEOUT: Duration = Duration::from_mins(2);
/// After this long without a sign of life a node is NotReady. Kubernetes' 50 s would make every test of a dead node wait.
const NODE_GRACE: &str = "16s";

/// Starts it and waits until it serves.
pub async fn start(slot: &Slot, tools: &Tools) -> Result<(kube::Client, Vec<Daemon>)> {
    let pki = Pki::create(slot)?;
    let namespace = Namespace::create(slot, "cp", slot.control_plane()).await?;
    certificates(slot, &pki)?;
    let spawn = |name: &str, args: Vec<String>| {
        let mut command = namespace.command(tools.path("hyperkube"));
        command.arg(name).args(args);
        Daemon::spawn(command, &slot.logs().join(format!("{name}.log")))
    };
    let mut daemons = vec![spawn("etcd", etcd(slot))?, spawn("kube-apiserver", api_server(slot))?];
    let client = client(slot).await?;
    ready(&client, &mut daemons)
        .await
        .context("kube-apiserver (see logs/kube-apiserver.log, logs/etcd.log)")?;
    daemons.push(spawn("kube-controller-manager", controllers(slot))?);
    daemons.push(spawn("kube-scheduler", scheduler(slot))?);
    for object in cluster_objects(slot) {
        apply(&client, object).await?;
    }
    daemons.push(spawn("coredns", vec!["-conf".into(), in_dir(slot, "Corefile")])?);
    Ok((client, daemons))
}

/// A client for the admin.
pub async fn client(slot: &Slot) -> Result<kube::Client> {
    // Two TLS providers may be linked into one program: the choice has to be made, and only the first one counts.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = Kubeconfig::read_from(slot.kubeconfig())?;
    let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(kube::Client::try_from(config)?)
}

async fn ready(client: &kube::Client, daemons: &mut [Daemon]) -> Result<()> {
    let daemons = std::cell::RefCell::new(daemons);
    until("/readyz", READY_TIMEOUT, || async {
        daemons.borrow_mut().iter_mut().try_for_each(Daemon::check)?;
        let request = http::Request::get("/readyz").body(Vec::new())?;
        client.request_text(request).await?;
        Ok(Some(()))
    })
    .await
}

fn certificates(slot: &Slot, pki: &Pki<'_>) -> Result<()> {
    let (address, service) = (slot.control_plane().to_string(), slot.api_service().to_string());
    let names = [
        &address,
        &service,
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    pki.issue("apiserver", "kube-apiserver", &["system:masters"], &names)?;
    pki.issue("front-proxy", "front-proxy-client", &[], &[])?;
    pki.kubeconfig("admin", "admin", &["system:masters"])?;
    pki.kubeconfig("controllers", "system:kube-controller-manager", &[])?;
    pki.kubeconfig("scheduler", "system:kube-scheduler", &[])?;
    pki.kubeconfig("proxy", "system:kube-proxy", &["system:node-proxier"])?;
    let corefile = format!(
        ".:53 {{\n  errors\n  health\n  ready\n  cache {{\n    success 9984 2\n    denial 9984 1\n  }}\n  \
         kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {}\n    ttl 2\n  }}\n}}\n",
        in_dir(slot, "admin.kubeconfig")
    );
    slot.write("Corefile".as_ref(), corefile)
}

fn in_dir(slot: &Slot, name: &str) -> String {
    slot.dir.join(name).display().to_string()
}

fn pki_file(slot: &Slot, name: &str) -> String {
    slot.dir.join("pki").join(name).display().to_string()
}

fn etcd(slot: &Slot) -> Vec<String> {
    vec![
        format!("--data-dir={}", in_dir(slot, "etcd")),
        "--unsafe-no-fsync".into(),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(slot: &Slot) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", pki_file(slot, name));
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--bind-address={}", slot.control_plane()),
        format!("--advertise-address={}", slot.control_plane()),
        "--secure-port=6443".into(),
        file("client-ca-file", "ca.crt"),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("kubelet-client-certificate", "apiserver.crt"),
        file("kubelet-client-key", "apiserver.key"),
        file("service-account-key-file", "sa.pub"),
        file("service-account-signing-key-file", "sa.key"),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-cluster-ip-range={}", slot.services()),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        // Node names do not resolve: without this exec and logs fail.
        "--kubelet-preferred-address-types=InternalIP".into(),
        file("requestheader-client-ca-file", "ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        file("proxy-client-cert-file", "front-proxy.crt"),
        file("proxy-client-key-file", "front-proxy.key"),
        "--allow-privileged=true".into(),
    ]
}

fn controllers(slot: &Slot) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", in_dir(slot, "controllers.kubeconfig")),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!("--root-ca-file={}", pki_file(slot, "ca.crt")),
        format!("--service-account-private-key-file={}", pki_file(slot, "sa.key")),
        "--allocate-node-cidrs=false".into(),
        format!("--node-monitor-grace-period={NODE_GRACE}"),
        "--node-monitor-period=2s".into(),
    ]
}

fn scheduler(slot: &Slot) -> Vec<String> {
    vec![format!("--kubeconfig={}", in_dir(slot, "scheduler.kubeconfig")), "--leader-elect=false".into()]
}

/// What a cluster has besides its processes: the proxy's rights and the DNS service, which has no pods to select.
fn cluster_objects(slot: &Slot) -> [Value; 3] {
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol });
    let ports = json!([port("dns", "UDP"), port("dns-tcp", "TCP")]);
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "e2e:node-proxier" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-proxy" }],
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": "kube-system" },
            "spec": { "clusterIP": slot.dns_service(), "ports": ports },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-e2e", "namespace": "kube-system",
                "labels": { "kubernetes.io/service-name": "kube-dns" },
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [slot.control_plane()], "conditions": { "ready": true } }],
            "ports": ports,
        }),
    ]
}

/// Server-side apply of any object of a built-in kind whose plural is the regular one.
pub async fn apply(client: &kube::Client, object: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().context("an object needs apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let resource = ApiResource::from_gvk(&kind);
    let name = object.metadata.name.clone().context("an object needs a name")?;
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("samara-e2e").force();
    // The namespaces of the system appear a moment after the server is ready.
    until(&format!("apply {} {name}", types.kind), Duration::from_secs(30), || async {
        Ok(Some(api.patch(&name, &params, &Patch::Apply(&object)).await?))
    })
    .await
}
