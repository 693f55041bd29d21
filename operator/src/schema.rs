//! The CRDs, brought up to date by the leading operator: Helm installs those of a chart once and never upgrades them.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::class::covers;
use crate::context::FIELD_MANAGER;

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Which version of Samara wrote a CRD last. An older operator, during a roll-back or beside a newer one, leaves it alone.
const VERSION_ANNOTATION: &str = "samara.dev/version";

/// Applies every CRD that is older than this operator; tries until it works or the end comes.
pub async fn bring_up_to_date(client: Client, end: CancellationToken) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut waiting = crds::all();
    while !waiting.is_empty() {
        let mut failed = Vec::new();
        for crd in waiting {
            if let Err(error) = apply(&api, &crd).await {
                tracing::warn!(crd = %crd.name_any(), %error, "the CRD cannot be brought up to date; trying again");
                failed.push(crd);
            }
        }
        waiting = failed;
        if !waiting.is_empty() {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

async fn apply(
    api: &Api<CustomResourceDefinition>,
    crd: &CustomResourceDefinition,
) -> Result<(), kube::Error> {
    let mut wanted = crd.clone();
    let ours = env!("CARGO_PKG_VERSION");
    wanted.annotations_mut().insert(VERSION_ANNOTATION.to_owned(), ours.to_owned());
    if let Some(there) = api.get_opt(&crd.name_any()).await? {
        if is_newer(there.annotations().get(VERSION_ANNOTATION).map_or("", String::as_str), ours) {
            tracing::info!(crd = %crd.name_any(), "the CRD is newer than this operator: left alone");
            return Ok(());
        }
        let json = |crd: &CustomResourceDefinition| serde_json::to_value(crd).unwrap_or_default();
        if covers(&json(&there), &json(&wanted)) {
            return Ok(());
        }
    }
    // By force: the chart's first installation owns the same fields, and this one is newer.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&crd.name_any(), &params, &Patch::Apply(&wanted)).await?;
    tracing::info!(crd = %crd.name_any(), "CRD brought up to date");
    Ok(())
}

/// Whether version `there` is higher than `ours`; what cannot be read is not.
fn is_newer(there: &str, ours: &str) -> bool {
    let parts = |version: &str| -> Option<Vec<u64>> {
        let core = version.split(['-', '+']).next().unwrap_or_default();
        core.split('.').map(|part| part.parse().ok()).collect()
    };
    matches!((parts(there), parts(ours)), (Some(there), Some(ours)) if there > ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_ones_are_left_alone() {
        assert!(is_newer("0.10.0", "0.9.1"));
        assert!(is_newer("1.0.0", "0.9.1-rc.1"));
        for there in ["", "0.9.1", "0.9.0", "garbage"] {
            assert!(!is_newer(there, "0.9.1"), "{there}");
        }
    }
}
