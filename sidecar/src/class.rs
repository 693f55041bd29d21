//! What a sidecar keeps of its class, also across restarts while the API server is away.

use std::sync::Arc;

use crds::{DistributionClass, OperatorEndpoint, OriginRules, RuntimeRules};
use serde::{Deserialize, Serialize};

use crate::store::{Layout, StoreError, read_file_capped, write_durably};

/// The largest copy that is read, in bytes.
const MAX_COPY: u64 = 1 << 20;

/// The class as jobs need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassInfo {
    /// The most bytes on one node.
    pub quota: Option<u64>,
    /// Where grants and sessions come from.
    pub operator: Option<OperatorEndpoint>,
    /// Base URLs of the trackers.
    pub trackers: Vec<String>,
    /// What is shared besides revisions.
    #[serde(default)]
    pub runtime: RuntimeRules,
    /// Which registries may be asked for private images.
    #[serde(default)]
    pub origin: OriginRules,
    /// It goes: what was done to the host is undone.
    #[serde(default)]
    pub retired: bool,
}

impl ClassInfo {
    /// Of a class as the API has it.
    pub fn new(class: &DistributionClass) -> Self {
        let status = class.status.clone().unwrap_or_default();
        let quota = class.spec.quota.as_deref().and_then(crds::parse_quantity);
        let trackers = status.trackers.into_iter().map(|tracker| tracker.url).collect();
        let (runtime, origin) = (class.spec.runtime.clone(), class.spec.origin.clone());
        let retired = class.spec.retire.is_some();
        Self { quota, operator: status.operator, trackers, runtime, origin, retired }
    }

    /// As it was when it was last saved.
    pub fn load(layout: &Layout) -> Result<Option<Arc<Self>>, StoreError> {
        let path = layout.class_file();
        let Some(bytes) = read_file_capped(&path, MAX_COPY)? else { return Ok(None) };
        let class = serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Damaged { path, why: error.to_string() })?;
        Ok(Some(Arc::new(class)))
    }

    /// Saves it. No secret is in it.
    pub fn save(&self, layout: &Layout) -> Result<(), StoreError> {
        let json = serde_json::to_vec(self).expect("a class has string keys only");
        write_durably(&layout.class_file(), &json)
    }
}
