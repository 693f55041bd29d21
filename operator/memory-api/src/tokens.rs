//! TokenReview: who a token belongs to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{error::ApiError, kinds::PODS, object::meta_str, store::Store};

/// A ServiceAccount token bound to a pod, as the kubelet projects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundToken {
    /// What it was made for.
    pub audiences: Vec<String>,
    /// The namespace of ServiceAccount and pod.
    pub namespace: String,
    /// The ServiceAccount.
    pub service_account: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID: a token dies with its pod.
    pub pod_uid: String,
    /// The node the pod runs on.
    pub node: String,
}

/// The tokens that are known, by their text.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<String, BoundToken>);

impl Tokens {
    pub(crate) fn add(&mut self, token: String, bound: BoundToken) {
        self.0.insert(token, bound);
    }
}

/// Fills in the status of a TokenReview.
pub(crate) fn review(store: &Store, mut review: Value) -> Result<Value, ApiError> {
    let Some(token) = review["spec"]["token"].as_str().filter(|t| !t.is_empty()) else {
        return Err(ApiError::new(422, "Invalid", "TokenReview is invalid: spec.token: Required value"));
    };
    let asked: Vec<&str> =
        review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let status = match store.tokens.0.get(token) {
        None => json!({"user": {}, "error": "invalid bearer token"}),
        Some(bound) if !pod_lives(store, bound) => {
            json!({"user": {}, "error": "invalid bearer token, the pod of the token no longer exists"})
        }
        Some(bound) => accepted(bound, &asked),
    };
    review["status"] = status;
    Ok(review)
}

fn accepted(bound: &BoundToken, asked: &[&str]) -> Value {
    let audiences: Vec<&str> = if asked.is_empty() {
        bound.audiences.iter().map(String::as_str).collect()
    } else {
        asked.iter().copied().filter(|a| bound.audiences.iter().any(|b| b == a)).collect()
    };
    if audiences.is_empty() {
        return json!({"user": {}, "error": format!("token audiences {:?} is invalid for the target audiences {asked:?}", bound.audiences)});
    }
    let BoundToken { namespace, service_account, pod, pod_uid, node, .. } = bound;
    json!({
        "authenticated": true,
        "audiences": audiences,
        "user": {
            "username": format!("system:serviceaccount:{namespace}:{service_account}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [pod_uid],
                "authentication.kubernetes.io/node-name": [node],
            },
        },
    })
}

fn pod_lives(store: &Store, bound: &BoundToken) -> bool {
    let key = (bound.namespace.clone(), bound.pod.clone());
    store.find(PODS, &key).is_some_and(|entry| meta_str(&entry.object, "uid") == bound.pod_uid)
}
