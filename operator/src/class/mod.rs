//! One `DistributionClass`: its trackers, their token, its status, and its end.

mod apply;
mod objects;
mod plan;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;

use crate::context::Context;
use crate::distribution::ApplyError;

pub use objects::{tracker_name, tracker_secret_name};
pub use plan::covers;

/// Looks at a class and does what is to be done.
pub async fn reconcile(context: &Arc<Context>, name: &str) -> Result<Option<Timestamp>, ApplyError> {
    let Some(observed) = observe(context, name) else {
        context.ledger().tokens.remove(name);
        return Ok(None);
    };
    let done = apply::apply(context, &observed, plan::plan(&observed)).await;
    let failure = done.as_ref().err().and_then(apply::failure);
    if let Some(status) = status::status(&observed, failure.as_ref(), Timestamp::now()) {
        // Why the steps were not done matters more than why that could not be said.
        let told = apply::write_status(context, &observed.class, status).await;
        done.and(told)?;
    } else {
        done?;
    }
    Ok(None)
}

fn observe(context: &Context, name: &str) -> Option<plan::Observed> {
    let index = context.index();
    let class = index.classes.named(name)?.clone();
    let in_use = index.distributions_of(name).next().is_some();
    let deployments = index.deployments.iter().filter(|object| objects::is_of_class(object.as_ref(), name));
    let services = index.services.iter().filter(|object| objects::is_of_class(object.as_ref(), name));
    let mut observed = plan::Observed {
        in_use,
        deployments: deployments.cloned().collect(),
        services: services.cloned().collect(),
        settings: context.settings.clone(),
        ca_bundle: context.serving.ca_bundle(),
        health: std::collections::BTreeMap::new(),
        class,
    };
    drop(index);
    observed.health.clone_from(&context.ledger().trackers);
    Some(observed)
}

/// Where a tracker answers, once its Service has an address: `http://clusterIP:port`.
pub fn tracker_url(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let address: std::net::IpAddr = spec.cluster_ip.as_deref()?.parse().ok()?;
    let port = u16::try_from(spec.ports.as_ref()?.first()?.port).ok()?;
    Some(format!("http://{}", std::net::SocketAddr::new(address, port)))
}
