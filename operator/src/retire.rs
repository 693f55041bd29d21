//! What `helm uninstall` runs before anything goes: tell the classes what becomes of their data, then wait a little until
//! finalizers and nodes have followed.

use std::collections::BTreeSet;
use std::time::Duration;

use crds::condition::{IMAGE_MIRROR, RETIRED};
use crds::{Distribution, DistributionClass, FINALIZER, NodeDistribution, Retire};
use kube::api::{Api, ListParams, ObjectList, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How often it looks again.
const POLL: Duration = Duration::from_secs(1);

/// The command line of `samara-operator retire`.
#[derive(Clone, Debug, clap::Args)]
pub struct RetireArgs {
    /// What becomes of the data on the nodes
    #[arg(long, value_enum)]
    pub mode: RetireMode,

    /// A class to retire; may be given several times
    #[arg(long = "class", required = true, value_name = "NAME")]
    pub classes: Vec<String>,

    /// How long to wait for nodes and finalizers, e.g. 60s
    #[arg(long, default_value = "60s", value_parser = seconds)]
    pub timeout: Duration,
}

/// [`Retire`] on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RetireMode {
    /// Leave the data on the nodes
    #[value(name = "Keep")]
    Keep,
    /// Remove from the nodes what sidecars had put there
    #[value(name = "Purge")]
    Purge,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    number
        .parse()
        .map(Duration::from_secs)
        .map_err(|_| format!("{text:?} is not a number of seconds such as 60s"))
}

/// Sets `retire` on the classes and waits until nothing of them holds an object or a node, or the time is over.
///
/// Answers what is left, for people to read: an uninstall goes on all the same, since nothing may keep it from ending, not an
/// API server that fails either. A class, or a definition, that does not exist has nothing to retire.
pub async fn retire(client: Client, args: &RetireArgs) -> Vec<String> {
    let deadline = Instant::now() + args.timeout;
    let mut told = false;
    loop {
        let left = async {
            if !told {
                tell(&client, args).await?;
                told = true;
            }
            look(&client, &args.classes).await
        };
        let left = left.await.unwrap_or_else(|error| vec![format!("the API server: {error}")]);
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        tracing::info!(count = left.len(), first = left[0], "waiting");
        sleep(POLL).await;
    }
}

async fn tell(client: &Client, args: &RetireArgs) -> kube::Result<()> {
    let wanted = match args.mode {
        RetireMode::Keep => Retire::Keep,
        RetireMode::Purge => Retire::Purge,
    };
    let api: Api<DistributionClass> = Api::all(client.clone());
    for class in &args.classes {
        let patch = Patch::Merge(json!({"spec": {"retire": wanted}}));
        if absent(api.patch(class, &PatchParams::default(), &patch).await)?.is_some() {
            tracing::info!(class, mode = ?args.mode, "retiring");
        } else {
            tracing::info!(class, "there is no such class: nothing to retire");
        }
    }
    Ok(())
}

async fn look(client: &Client, names: &[String]) -> kube::Result<Vec<String>> {
    let api: Api<DistributionClass> = Api::all(client.clone());
    let mut classes = Vec::new();
    for name in names {
        classes.extend(absent(api.get(name).await)?);
    }
    let distributions: Vec<Distribution> = all(Api::all(client.clone())).await?;
    let nodes: Vec<NodeDistribution> = all(Api::all(client.clone())).await?;
    Ok(remaining(names, &classes, &distributions, &nodes))
}

async fn all<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    Ok(absent(api.list(&ListParams::default()).await)?
        .map_or_else(Vec::new, |list: ObjectList<K>| list.items))
}

/// 404 is an answer here.
fn absent<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What still holds something of these classes.
fn remaining(
    names: &[String],
    classes: &[DistributionClass],
    distributions: &[Distribution],
    nodes: &[NodeDistribution],
) -> Vec<String> {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let held = |finalizers: &[String]| finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let classes = classes
        .iter()
        .filter(|class| held(class.finalizers()))
        .map(|class| format!("class {} has its finalizer", class.name_any()));
    let distributions = distributions
        .iter()
        .filter(|dist| names.contains(dist.spec.class_name.as_str()) && held(dist.finalizers()))
        .map(|dist| {
            format!(
                "distribution {}/{} has its finalizer",
                dist.namespace().unwrap_or_default(),
                dist.name_any()
            )
        });
    let nodes = nodes.iter().filter(|node| names.contains(node.spec.class_name.as_str()));
    let pointed = nodes
        .clone()
        .filter(|node| has_mirror(node))
        .map(|node| format!("the container runtime of node {} still asks the image mirror", node.name_any()));
    let nodes = nodes
        .filter(|node| node.status.as_ref().is_some_and(|status| !status.revisions.is_empty()))
        .map(|node| format!("node {} has not let go of its data", node.name_any()));
    classes.chain(distributions).chain(nodes).chain(pointed).collect()
}

/// Whether the node's sidecar has pointed the container runtime at its mirror, and not undone that.
fn has_mirror(node: &NodeDistribution) -> bool {
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == IMAGE_MIRROR && condition.reason != RETIRED)
}

#[cfg(test)]
mod tests {
    use crds::{DistributionClassSpec, NodeDistributionSpec};
    use kube::api::PostParams;
    use memory_api::MemoryApi;

    use super::*;

    fn args(mode: RetireMode, timeout: Duration) -> RetireArgs {
        RetireArgs { mode, classes: vec!["default".to_owned()], timeout }
    }

    fn class(name: &str) -> DistributionClass {
        let spec: DistributionClassSpec = serde_json::from_value(json!({"root": "/var/lib/samara"})).unwrap();
        let mut class = DistributionClass::new(name, spec);
        class.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        class
    }

    fn node(name: &str, class: &str) -> NodeDistribution {
        let mut node = NodeDistribution::new(name, NodeDistributionSpec { class_name: class.to_owned() });
        let status =
            json!({"revisions": [{"revision": "r", "phase": "Ready", "since": "2025-01-01T00:00:00Z"}]});
        node.status = Some(serde_json::from_value(status).unwrap());
        node
    }

    fn distribution(name: &str, class: &str) -> Distribution {
        let spec = json!({"className": class, "source": {"http": {"files": [{"url": "http://a/b"}]}}});
        let mut distribution = Distribution::new(name, serde_json::from_value(spec).unwrap());
        distribution.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        distribution
    }

    #[test]
    fn only_what_belongs_to_the_classes_is_waited_for() {
        let names = ["default".to_owned()];
        let left = remaining(
            &names,
            &[class("default")],
            &[distribution("mine", "default"), distribution("other", "fast")],
            &[node("a", "default"), node("b", "fast")],
        );
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left[1].contains("mine") && left[2].contains("node a"), "{left:?}");
        assert!(remaining(&names, &[], &[], &[]).is_empty());
    }

    #[test]
    fn a_node_whose_runtime_still_asks_the_mirror_is_waited_for() {
        let names = ["default".to_owned()];
        let node = |reason: &str| {
            let mut node =
                NodeDistribution::new("a", NodeDistributionSpec { class_name: "default".to_owned() });
            let status = json!({"revisions": [], "conditions": [{
                "type": "ImageMirrorReady", "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2025-01-01T00:00:00Z",
            }]});
            node.status = Some(serde_json::from_value(status).unwrap());
            node
        };
        assert_eq!(remaining(&names, &[], &[], &[node("Retiring")]).len(), 1);
        assert!(remaining(&names, &[], &[], &[node("Retired")]).is_empty());
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds() {
        assert_eq!(seconds("60s"), Ok(Duration::from_mins(1)));
        assert_eq!(seconds("5"), Ok(Duration::from_secs(5)));
        assert!(seconds("1m").is_err());
    }

    #[tokio::test]
    async fn it_sets_retire_and_ends_when_the_finalizer_goes() {
        let memory = MemoryApi::new();
        let api: Api<DistributionClass> = Api::all(memory.client());
        api.create(&PostParams::default(), &class("default")).await.unwrap();
        let task = tokio::spawn({
            let client = memory.client();
            async move { retire(client, &args(RetireMode::Purge, Duration::from_secs(30))).await }
        });
        while api.get("default").await.unwrap().spec.retire != Some(Retire::Purge) {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!task.is_finished());
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch("default", &PatchParams::default(), &patch).await.unwrap();
        assert!(task.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn it_gives_up_in_time_and_says_what_is_left() {
        let memory = MemoryApi::new();
        let api: Api<DistributionClass> = Api::all(memory.client());
        api.create(&PostParams::default(), &class("default")).await.unwrap();
        let left = retire(memory.client(), &args(RetireMode::Keep, Duration::ZERO)).await;
        assert_eq!(left, ["class default has its finalizer"]);
    }

    #[tokio::test]
    async fn a_class_that_is_gone_has_nothing_to_retire() {
        let client = MemoryApi::new().client();
        let left = retire(client, &args(RetireMode::Keep, Duration::from_secs(30))).await;
        assert!(left.is_empty());
    }

    #[tokio::test]
    async fn an_api_server_that_fails_does_not_keep_it() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let answer = http::Response::builder().status(500).body(kube::client::Body::empty());
            Ok::<_, std::convert::Infallible>(answer.expect("a response"))
        });
        let client = Client::new(service, "default");
        let left = retire(client, &args(RetireMode::Keep, Duration::from_secs(2))).await;
        assert!(left[0].starts_with("the API server: "), "{left:?}");
    }
}
