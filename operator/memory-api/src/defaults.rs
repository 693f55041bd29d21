//! What the API server and its controllers fill in by themselves, for the few kinds where someone relies on it.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::{
    addresses::AddressPool,
    error::ApiError,
    kinds::{CRDS, KindId, NAMESPACES, PODS, SECRETS, SERVICES},
    object::{meta_str, timestamp},
};

/// Completes an object that is about to be made.
pub(crate) fn on_create(id: KindId, object: &mut Value, pool: &mut AddressPool) -> Result<(), ApiError> {
    match id {
        NAMESPACES => object["status"] = json!({"phase": "Active"}),
        PODS => object["status"] = json!({"phase": "Pending"}),
        SERVICES => give_address(object, pool)?,
        _ => on_write(id, object),
    }
    Ok(())
}

/// Completes an object that is about to be written.
pub(crate) fn on_write(id: KindId, object: &mut Value) {
    match id {
        SECRETS => encode_strings(object),
        CRDS => establish(object),
        _ => {}
    }
}

/// A Service keeps its address when an update does not mention it.
pub(crate) fn keep_address(old: &Value, new: &mut Value) {
    for field in ["clusterIP", "clusterIPs", "type"] {
        if new["spec"].get(field).is_none()
            && let Some(value) = old["spec"].get(field)
        {
            new["spec"][field] = value.clone();
        }
    }
}

fn give_address(service: &mut Value, pool: &mut AddressPool) -> Result<(), ApiError> {
    let spec = &mut service["spec"];
    if spec.get("type").is_none() {
        spec["type"] = json!("ClusterIP");
    }
    if spec["type"] == "ExternalName" || spec["clusterIP"] == "None" {
        return Ok(());
    }
    let name = || SERVICES.kind();
    let address = match spec["clusterIP"].as_str().filter(|a| !a.is_empty()) {
        Some(asked) if pool.claim(asked) => asked.to_owned(),
        Some(asked) => {
            let why = format!("spec.clusterIPs[0]: Invalid value: \"{asked}\": failed to allocate IP");
            return Err(ApiError::invalid(name(), meta_str(service, "name"), &why));
        }
        None => match pool.allocate() {
            Some(address) => address.to_string(),
            None => {
                return Err(ApiError::new(
                    500,
                    "InternalError",
                    "failed to allocate a serviceIP: range is full",
                ));
            }
        },
    };
    spec["clusterIPs"] = json!([address]);
    spec["clusterIP"] = json!(address);
    Ok(())
}

fn encode_strings(secret: &mut Value) {
    let Some(map) = secret.as_object_mut() else { return };
    let Some(Value::Object(strings)) = map.remove("stringData") else { return };
    for (key, value) in strings {
        let text = value.as_str().unwrap_or_default();
        secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

/// The names of our kinds are always accepted: they are served from the start.
fn establish(crd: &mut Value) {
    if crd["status"]["conditions"].is_array() {
        return;
    }
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": timestamp()});
    crd["status"] = json!({
        "acceptedNames": crd["spec"]["names"],
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        "storedVersions": [crd["spec"]["versions"][0]["name"]],
    });
}
