//! What the chart's roles and its admission policy let a sidecar and the operator do, asked of a real API server with real
//! tokens. The nodes and pods exist in the API only.

#[allow(dead_code, reason = "the other test of the chart uses the rest")]
mod helm;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{NodeDistribution, NodeDistributionSpec};
use e2e::real::{self, KUBECONFIG, Real};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt, discovery};
use serde_json::{Value, json};

const NAMESPACE: &str = "samara-rights";
/// It lets the operator read its pull secrets.
const LENT: &str = "samara-rights-lent";
const OWN: &str = "rights-own";
const OTHER: &str = "rights-other";
/// The kinds that say who may do what.
const KINDS: [&str; 7] = [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

async fn apply(client: &Client, object: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().context("kind")?;
    let (resource, capabilities) =
        discovery::oneshot::pinned_kind(client, &GroupVersionKind::try_from(&types)?).await?;
    let api: Api<DynamicObject> = match (capabilities.scope, object.namespace()) {
        (discovery::Scope::Namespaced, Some(namespace)) => {
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
        _ => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("samara-e2e").force();
    let name = object.name_any();
    api.patch(&name, &params, &Patch::Apply(&object)).await.with_context(|| format!("{} {name}", types.kind))
}

/// The rights of the chart, a node, and the sidecar's pod on it.
async fn prepare(client: &Client, rendered: Vec<Value>) -> Result<()> {
    real::install_crds(client).await?;
    for namespace in [NAMESPACE, LENT] {
        apply(client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
            .await?;
    }
    for object in rendered {
        if object["kind"].as_str().is_some_and(|kind| KINDS.contains(&kind)) {
            apply(client, object).await?;
        }
    }
    for node in [OWN, OTHER] {
        apply(client, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).await?;
    }
    let spec = json!({
        "nodeName": OWN, "serviceAccountName": "samara-sidecar",
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "sidecar", "image": "none.invalid/none"}],
    });
    let metadata = json!({"name": "sidecar", "namespace": NAMESPACE});
    apply(client, json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await?;
    Ok(())
}

/// A client that shows a token of this account, bound to the pod if one is named.
async fn client_of(admin: &Client, account: &str, pod: Option<&str>) -> Result<Client> {
    let mut spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    if let Some(name) = pod {
        let pods: Api<Pod> = Api::namespaced(admin.clone(), NAMESPACE);
        let uid = pods.get(name).await?.uid();
        spec.bound_object_ref = Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            uid,
        });
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), NAMESPACE);
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let token = answer.status.context("a token")?.token;
    let path = std::env::var_os(KUBECONFIG).context("a kubeconfig")?;
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    Ok(Client::try_from(config)?)
}

async fn can(client: &Client, verb: &str, resource: &str, namespace: Option<&str>) -> Result<bool> {
    let (group, resource) = resource.split_once('/').context("group/resource")?;
    let (resource, subresource) =
        resource.split_once('/').map_or((resource, None), |(r, s)| (r, Some(s.to_owned())));
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("an answer")?.allowed)
}

fn node_distribution(node: &str) -> NodeDistribution {
    NodeDistribution::new(node, NodeDistributionSpec { class_name: "default".to_owned() })
}

/// 403, by the policy.
fn refused<T: std::fmt::Debug>(what: &str, answer: kube::Result<T>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let says = "the node that its token is bound to";
            ensure!(
                status.message.contains(says),
                "{what}: refused, but not by the policy: {}",
                status.message
            );
            Ok(())
        }
        answer => anyhow::bail!("{what}: not refused: {answer:?}"),
    }
}

#[tokio::test]
async fn t116_t117_rights_on_a_real_api_server() -> Result<()> {
    let Some(helm) = helm::helm() else { return Ok(()) };
    let Real::Server(admin) = real::client("the rights of the chart").await? else { return Ok(()) };
    let rendered = helm::render(&helm, NAMESPACE, &json!({"operator": {"pullSecretNamespaces": [LENT]}}))
        .map_err(anyhow::Error::msg)?;
    prepare(&admin, rendered).await?;
    let outcome = check(&admin).await;
    clean_up(&admin).await?;
    outcome
}

async fn check(admin: &Client) -> Result<()> {
    let sidecar = client_of(admin, "samara-sidecar", Some("sidecar")).await?;
    let unbound = client_of(admin, "samara-sidecar", None).await?;
    writes_only_its_own_node(admin, &sidecar, &unbound).await?;
    sidecar_cannot(&sidecar).await?;
    operator_cannot(&client_of(admin, "samara-operator", None).await?).await
}

async fn writes_only_its_own_node(admin: &Client, sidecar: &Client, unbound: &Client) -> Result<()> {
    let (params, patch) = (PostParams::default(), PatchParams::default());
    let as_admin: Api<NodeDistribution> = Api::all(admin.clone());
    let api: Api<NodeDistribution> = Api::all(sidecar.clone());
    let stranger: Api<NodeDistribution> = Api::all(unbound.clone());
    // A new policy takes a moment to be in force.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for _ in 0..60 {
        if api.create(&dry, &node_distribution(OTHER)).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    refused("create another's", api.create(&params, &node_distribution(OTHER)).await)?;
    refused("create without a node", stranger.create(&params, &node_distribution(OWN)).await)?;
    as_admin.create(&params, &node_distribution(OTHER)).await?;
    let spec = Patch::Merge(json!({"spec": {"className": "changed"}}));
    let status = Patch::Merge(json!({"status": {"revisions": []}}));
    refused("patch another's", api.patch(OTHER, &patch, &spec).await)?;
    refused("patch another's status", api.patch_status(OTHER, &patch, &status).await)?;

    api.create(&params, &node_distribution(OWN)).await.context("create its own")?;
    api.patch(OWN, &patch, &spec).await.context("patch its own")?;
    api.patch_status(OWN, &patch, &status).await.context("patch the status of its own")?;
    refused("patch without a node", stranger.patch_status(OWN, &patch, &status).await)
}

async fn sidecar_cannot(sidecar: &Client) -> Result<()> {
    for (verb, resource) in [
        ("list", "/secrets"),
        ("get", "/secrets"),
        ("get", "/configmaps"),
        ("create", "/pods"),
        ("list", "/pods"),
        ("create", "/pods/exec"),
        ("create", "/serviceaccounts/token"),
        ("patch", "/nodes"),
        ("patch", "/nodes/status"),
        ("get", "/nodes/proxy"),
        ("list", "samara.dev/distributions"),
        ("patch", "samara.dev/distributions/status"),
        ("patch", "samara.dev/distributionrevisions"),
        ("create", "samara.dev/distributionrevisions"),
        ("patch", "samara.dev/distributionclasses"),
        ("list", "samara.dev/nodedistributions"),
        ("delete", "samara.dev/nodedistributions"),
        ("create", "authentication.k8s.io/tokenreviews"),
        ("create", "rbac.authorization.k8s.io/clusterrolebindings"),
    ] {
        for namespace in [None, Some(NAMESPACE), Some("kube-system")] {
            ensure!(
                !can(sidecar, verb, resource, namespace).await?,
                "a sidecar can {verb} {resource} in {namespace:?}"
            );
        }
    }
    ensure!(
        can(sidecar, "watch", "samara.dev/distributionrevisions", None).await?,
        "the question is put rightly"
    );
    Ok(())
}

async fn operator_cannot(operator: &Client) -> Result<()> {
    for (verb, resource) in [
        ("list", "/secrets"),
        ("watch", "/secrets"),
        ("create", "/pods"),
        ("create", "/pods/exec"),
        ("create", "/serviceaccounts/token"),
        ("impersonate", "/users"),
        ("patch", "/nodes"),
        ("delete", "/nodes"),
        ("delete", "/namespaces"),
        ("delete", "samara.dev/distributions"),
        ("patch", "samara.dev/nodedistributions"),
        ("create", "apiextensions.k8s.io/customresourcedefinitions"),
        ("patch", "apiextensions.k8s.io/customresourcedefinitions"),
        ("escalate", "rbac.authorization.k8s.io/clusterroles"),
        ("bind", "rbac.authorization.k8s.io/clusterroles"),
    ] {
        for namespace in [None, Some(NAMESPACE), Some(LENT), Some("kube-system")] {
            ensure!(
                !can(operator, verb, resource, namespace).await?,
                "the operator can {verb} {resource} in {namespace:?}"
            );
        }
    }
    ensure!(
        !can(operator, "update", "/secrets", Some(NAMESPACE)).await?,
        "the operator can write any Secret"
    );
    ensure!(
        can(operator, "get", "/secrets", Some(LENT)).await?,
        "it cannot read the pull secrets that it may"
    );
    for verb in ["create", "update", "patch", "delete"] {
        ensure!(!can(operator, verb, "/secrets", Some(LENT)).await?, "it can {verb} a pull secret");
    }
    for (verb, resource) in [("get", "/secrets"), ("create", "apps/deployments"), ("delete", "/services")] {
        for namespace in [None, Some("kube-system"), Some("default")] {
            ensure!(
                !can(operator, verb, resource, namespace).await?,
                "the operator can {verb} {resource} in {namespace:?}"
            );
        }
        ensure!(can(operator, verb, resource, Some(NAMESPACE)).await?, "at home it cannot {verb} {resource}");
    }
    Ok(())
}

async fn clean_up(admin: &Client) -> Result<()> {
    let now = DeleteParams::default().grace_period(0);
    drop(Api::<Pod>::namespaced(admin.clone(), NAMESPACE).delete("sidecar", &now).await);
    for node in [OWN, OTHER] {
        drop(Api::<NodeDistribution>::all(admin.clone()).delete(node, &now).await);
        drop(Api::<Node>::all(admin.clone()).delete(node, &now).await);
    }
    for namespace in [NAMESPACE, LENT] {
        Api::<Namespace>::all(admin.clone()).delete(namespace, &now).await?;
    }
    Ok(())
}
