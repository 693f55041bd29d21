//! What a person wants to see when a scenario fails.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::{Cluster, process};

/// Per question: a cluster that does not answer must not hide the failure itself.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The last lines of each log and list.
const LINES: usize = 60;

/// Pods, events, our objects, and the last lines of the logs of the product's pods.
pub async fn dump(cluster: &Cluster) -> String {
    let mut text = String::new();
    let questions: [&[&str]; 5] = [
        &["get", "nodes", "-o", "wide"],
        &["get", "pods", "-A", "-o", "wide"],
        &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
        &["get", "distributions.samara.dev", "-A", "-o", "yaml"],
        &["get", "distributionrevisions.samara.dev,nodedistributions.samara.dev", "-o", "yaml"],
    ];
    for question in questions {
        section(&mut text, cluster, question, LINES * 4).await;
    }
    for (namespace, pod) in our_pods(cluster).await {
        for previous in [&["--previous"][..], &[]] {
            let mut question = vec!["-n", &namespace, "logs", &pod, "--all-containers", "--prefix=false"];
            question.extend(previous);
            section(&mut text, cluster, &question, LINES).await;
        }
    }
    text
}

async fn section(text: &mut String, cluster: &Cluster, question: &[&str], lines: usize) {
    let mut command = Command::new(cluster.tools.path("kubectl"));
    command.env("KUBECONFIG", &cluster.kubeconfig).args(question);
    let answer = match process::output(command, TIMEOUT).await {
        Ok(output) if output.success => output.stdout,
        // No earlier container, no such kind: nothing to show.
        Ok(output)
            if question.contains(&"--previous") || output.stderr.contains("the server doesn't have") =>
        {
            return;
        }
        Ok(output) => output.stderr,
        Err(error) => format!("{error:#}"),
    };
    let all: Vec<_> = answer.lines().collect();
    let tail = &all[all.len().saturating_sub(lines)..];
    write!(text, "\n--- kubectl {}\n{}\n", question.join(" "), tail.join("\n"))
        .expect("writing to a String cannot fail");
}

/// Namespace and name of the pods with the product's label.
async fn our_pods(cluster: &Cluster) -> Vec<(String, String)> {
    let api: Api<Pod> = Api::all(cluster.kube());
    let params = ListParams::default().labels("app.kubernetes.io/name=samara");
    let pods = tokio::time::timeout(TIMEOUT, api.list(&params)).await.ok().and_then(Result::ok);
    pods.map(|list| list.items)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|pod| Some((pod.metadata.namespace?, pod.metadata.name?)))
        .collect()
}
