//! The objects of a class's trackers, as they should be.

use std::collections::BTreeMap;

use crds::{CLASS_LABEL, DistributionClass, TRACKER_COMPONENT};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::context::Settings;
use crate::watch::COMPONENT_LABEL;

/// Where a tracker listens inside its pod.
const PORT: i32 = 6969;
/// The token's key in the class's Secret.
pub const TOKEN_KEY: &str = "token";
/// Where the Secret is mounted in a tracker's pod.
const SECRET_FOLDER: &str = "/var/run/secrets/samara.dev/tracker";
/// A user that owns nothing.
const NOBODY: i64 = 65532;
/// A tracker whose pod is to end goes on answering for so many seconds, until nobody is sent to it any more.
const LINGER_SECONDS: i64 = 5;
/// Seconds for all of its end: it lingers, requests have 10 s, and siblings are told the last.
const GRACE_SECONDS: i64 = LINGER_SECONDS + 15;
/// A tracker leaves a node that is gone after so many seconds: its Service stays, and so does its URL.
const TOLERATION_SECONDS: i64 = 10;

/// The name of a tracker's Deployment and Service.
pub fn tracker_name(class: &str, number: i32) -> String {
    format!("samara-tracker-{class}-{number}")
}

/// The names of a class's trackers, in order of their number.
pub fn tracker_names(class: &DistributionClass) -> Vec<String> {
    (0..class.spec.trackers.replicas).map(|number| tracker_name(&class.name_any(), number)).collect()
}

/// The name of the Secret with the class's tracker token.
pub fn tracker_secret_name(class: &str) -> String {
    format!("samara-tracker-{class}")
}

/// Whether an object carries the label of a class.
pub fn is_of_class(object: &impl ResourceExt, class: &str) -> bool {
    object.labels().get(CLASS_LABEL).map(String::as_str) == Some(class)
}

/// Whether an object is owned by exactly this class, not by one of the same name that was there before.
pub fn is_owned_by(object: &impl ResourceExt, class: &DistributionClass) -> bool {
    let uid = class.metadata.uid.as_deref().unwrap_or_default();
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

fn labels(class: &str, name: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "samara"),
        ("app.kubernetes.io/managed-by", "samara-operator"),
        (COMPONENT_LABEL, TRACKER_COMPONENT),
        ("app.kubernetes.io/instance", name),
        (CLASS_LABEL, class),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn metadata(class: &DistributionClass, name: &str, namespace: &str) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "labels": labels(&class.name_any(), name),
        "ownerReferences": class.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
    })
}

/// A tracker's Service: its address is the tracker's URL for as long as the class lives.
pub fn service(class: &DistributionClass, name: &str, settings: &Settings) -> Value {
    json!({
        "apiVersion": Service::api_version(&()),
        "kind": Service::kind(&()),
        "metadata": metadata(class, name, &settings.namespace),
        "spec": {
            "type": "ClusterIP",
            "publishNotReadyAddresses": false,
            "selector": {"app.kubernetes.io/instance": name, COMPONENT_LABEL: TRACKER_COMPONENT},
            "ports": [
                {"name": "http", "protocol": "TCP", "port": class.spec.trackers.port, "targetPort": "http"},
                {"name": "udp", "protocol": "UDP", "port": class.spec.trackers.port, "targetPort": "udp"},
            ],
        },
    })
}

/// A tracker's Deployment.
pub fn deployment(class: &DistributionClass, name: &str, settings: &Settings) -> Value {
    let class_name = class.name_any();
    json!({
        "apiVersion": Deployment::api_version(&()),
        "kind": Deployment::kind(&()),
        "metadata": metadata(class, name, &settings.namespace),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            // Soft state: two at a time would only split the swarm.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app.kubernetes.io/instance": name, COMPONENT_LABEL: TRACKER_COMPONENT}},
            "template": {
                "metadata": {"labels": labels(&class_name, name)},
                "spec": pod(class, name, settings),
            },
        },
    })
}

fn pod(class: &DistributionClass, name: &str, settings: &Settings) -> Value {
    let class_name = class.name_any();
    let mut pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [tolerate("not-ready"), tolerate("unreachable")],
        "affinity": apart(&class_name),
        "containers": [container(class, name, settings)],
        "volumes": [{
            "name": "token",
            "secret": {"secretName": tracker_secret_name(&class_name), "defaultMode": 0o440},
        }],
    });
    if !settings.image_pull_secrets.is_empty() {
        let secrets = settings.image_pull_secrets.iter().map(|name| json!({"name": name}));
        pod["imagePullSecrets"] = secrets.collect();
    }
    pod
}

fn tolerate(trouble: &str) -> Value {
    json!({
        "key": format!("node.kubernetes.io/{trouble}"), "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": TOLERATION_SECONDS,
    })
}

/// Rather not beside another tracker of the class.
fn apart(class: &str) -> Value {
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {COMPONENT_LABEL: TRACKER_COMPONENT, CLASS_LABEL: class}},
        },
    }]}})
}

/// The trackers of a class are in step with each other. They know each other by the names of their Services, which stay when a
/// tracker moves.
fn siblings(class: &DistributionClass, name: &str, settings: &Settings) -> Vec<String> {
    let (namespace, port) = (&settings.namespace, class.spec.trackers.port);
    let others = tracker_names(class).into_iter().filter(|other| other != name);
    others.map(|other| format!("--sibling=http://{other}.{namespace}.svc:{port}")).collect()
}

fn container(class: &DistributionClass, name: &str, settings: &Settings) -> Value {
    let mut args = vec![
        format!("--listen=[::]:{PORT}"),
        format!("--token-file={SECRET_FOLDER}/{TOKEN_KEY}"),
        format!("--linger={LINGER_SECONDS}"),
    ];
    args.extend(siblings(class, name, settings));
    json!({
        "name": "tracker",
        "image": settings.image,
        "command": ["/samara-tracker"],
        "args": args,
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "udp", "containerPort": PORT, "protocol": "UDP"},
        ],
        "volumeMounts": [{"name": "token", "mountPath": SECRET_FOLDER, "readOnly": true}],
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "startupProbe": probe("/healthz", 1, 30),
        "readinessProbe": probe("/readyz", 5, 2),
        "livenessProbe": probe("/healthz", 5, 3),
    })
}

fn probe(path: &str, period: i32, failures: i32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures,
    })
}
