//! The in-memory API and a real kube-apiserver pass the same suite.

use e2e::{
    conformance::{CHECKS, Check, has_controllers},
    real::{self, Real},
};
use kube::Client;

async fn run(client: &Client, checks: impl Iterator<Item = &Check>) {
    let mut failures = Vec::new();
    for check in checks {
        if let Err(error) = check.run(client).await {
            failures.push(format!("{error:#}"));
        }
    }
    assert!(failures.is_empty(), "{} checks failed:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn the_memory_api_conforms() {
    run(&memory_api::MemoryApi::new().client(), CHECKS.iter()).await;
}

#[tokio::test]
async fn a_real_api_server_conforms() {
    let Real::Server(client) = real::client("api conformance").await.unwrap() else { return };
    real::install_crds(&client).await.unwrap();
    let controllers = has_controllers(&client).await.unwrap();
    for check in CHECKS.iter().filter(|check| check.controllers && !controllers) {
        real::skip(check.name, "this API server runs without kube-controller-manager").unwrap();
    }
    run(&client, CHECKS.iter().filter(|check| controllers || !check.controllers)).await;
}
