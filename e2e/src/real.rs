//! A real API server for the tests that need one: named by `SAMARA_E2E_KUBECONFIG`, else skipped by name.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions, wait::await_condition},
};

/// The kubeconfig of a cluster that the tests may use as they like.
pub const KUBECONFIG: &str = "SAMARA_E2E_KUBECONFIG";

/// Whether there is one.
#[allow(clippy::large_enum_variant, reason = "one of them exists for a moment")]
pub enum Real {
    /// There is.
    Server(Client),
    /// There is none, and this is not CI.
    Skipped,
}

/// A client of it. Without one the test named `what` is skipped aloud, or with `CI=true` fails.
pub async fn client(what: &str) -> Result<Real> {
    let Some(path) = std::env::var_os(KUBECONFIG).filter(|path| !path.is_empty()).map(PathBuf::from) else {
        skip(what, &format!("{KUBECONFIG} names no kubeconfig (`cargo xtask cluster up` prints one)"))?;
        return Ok(Real::Skipped);
    };
    // Two TLS providers may be linked into one test binary; the choice has to be made, and only the first one counts.
    drop(rustls::crypto::ring::default_provider().install_default());
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Real::Server(Client::try_from(config)?))
}

/// Says that `what` is not tested here and why; with `CI=true` that is an error.
#[allow(clippy::print_stderr, reason = "the person who runs the tests is to read it")]
pub fn skip(what: &str, why: &str) -> Result<()> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("{what}: {why}; with CI=true nothing may be skipped");
    }
    eprintln!("SKIPPED {what}: {why}");
    Ok(())
}

/// Installs the CRDs of this source tree and waits until they are served.
pub async fn install_crds(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::all() {
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("samara-e2e").force(), &Patch::Apply(&crd))
            .await
            .with_context(|| format!("the API server refuses {name}"))?;
        await_condition(api.clone(), &name, conditions::is_crd_established()).await?;
    }
    Ok(())
}
