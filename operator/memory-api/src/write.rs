//! The verbs that change something: what is checked, what is kept, what is counted.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    apply, defaults,
    error::ApiError,
    kinds::{Generation, Kind, KindId, SERVICES},
    object::{finalizers, is_deleting, meta_str, metadata_mut, set_or_remove, strip_nulls, timestamp},
    store::{Key, Store},
};

/// Metadata that only the server writes.
const SERVER_METADATA: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
    "managedFields",
    "selfLink",
];

/// What a server-side apply carries besides the object.
pub(crate) struct ApplyOptions<'a> {
    pub(crate) manager: &'a str,
    pub(crate) force: bool,
}

impl Store {
    /// POST: makes an object.
    pub(crate) fn create(
        &mut self,
        id: KindId,
        namespace: &str,
        body: Value,
    ) -> Result<Arc<Value>, ApiError> {
        self.create_applied(id, namespace, body, BTreeMap::new())
    }

    fn create_applied(
        &mut self,
        id: KindId,
        namespace: &str,
        mut object: Value,
        applied: BTreeMap<String, Value>,
    ) -> Result<Arc<Value>, ApiError> {
        let kind = id.kind();
        strip_nulls(&mut object);
        check_type(kind, namespace, &mut object)?;
        let name = self.choose_name(kind, &mut object)?;
        if !meta_str(&object, "resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        self.check_namespace(kind, namespace, &name)?;
        let key = (namespace.to_owned(), name);
        if self.find(id, &key).is_some() {
            return Err(ApiError::already_exists(kind, &key.1));
        }
        if kind.status
            && kind.kind != "Node"
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        defaults::on_create(id, &mut object, &mut self.addresses)?;
        let uid = self.next_uid();
        stamp_new(kind, &mut object, &uid);
        Ok(self.commit(id, &key, object, applied))
    }

    fn choose_name(&mut self, kind: &Kind, object: &mut Value) -> Result<String, ApiError> {
        let given = meta_str(object, "name").to_owned();
        let prefix = meta_str(object, "generateName").to_owned();
        let name = match (given.as_str(), prefix.as_str()) {
            ("", "") => {
                return Err(ApiError::invalid(
                    kind,
                    "",
                    "metadata.name: Required value: name or generateName is required",
                ));
            }
            ("", prefix) => format!("{prefix}{}", &self.next_uid()[31..]),
            (name, _) => name.to_owned(),
        };
        if !is_subdomain(&name) {
            let why =
                format!("metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain is needed");
            return Err(ApiError::invalid(kind, &name, &why));
        }
        metadata_mut(object).insert("name".into(), json!(name));
        Ok(name)
    }

    /// PUT: replaces an object, or with `status` only its status.
    pub(crate) fn update(
        &mut self,
        id: KindId,
        key: &Key,
        status: bool,
        body: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let applied = self.get(id, key)?.applied.clone();
        if id.kind().versioned_update && meta_str(&body, "resourceVersion").is_empty() {
            let why = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update";
            return Err(ApiError::invalid(id.kind(), &key.1, why));
        }
        self.replace(id, key, status, body, applied)
    }

    /// An update that asks for no version.
    pub(crate) fn overwrite(&mut self, id: KindId, key: &Key, body: Value) -> Result<Arc<Value>, ApiError> {
        let applied = self.get(id, key)?.applied.clone();
        self.replace(id, key, false, body, applied)
    }

    /// PATCH with a JSON merge patch (RFC 7396).
    pub(crate) fn merge_patch(
        &mut self,
        id: KindId,
        key: &Key,
        status: bool,
        patch: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        let entry = self.get(id, key)?.clone();
        let mut object = Value::clone(&entry.object);
        json_patch::merge(&mut object, patch);
        self.replace(id, key, status, object, entry.applied)
    }

    /// PATCH with a JSON patch (RFC 6902): all of its operations or none.
    pub(crate) fn json_patch(
        &mut self,
        id: KindId,
        key: &Key,
        status: bool,
        patch: &json_patch::Patch,
    ) -> Result<Arc<Value>, ApiError> {
        let entry = self.get(id, key)?.clone();
        let mut object = Value::clone(&entry.object);
        json_patch::patch(&mut object, patch).map_err(|error| {
            let why = format!("the server rejected our request due to an error in our request: {error}");
            ApiError::invalid(id.kind(), &key.1, &why)
        })?;
        self.replace(id, key, status, object, entry.applied)
    }

    /// PATCH with server-side apply. The second value says whether the object was made.
    pub(crate) fn apply(
        &mut self,
        id: KindId,
        key: &Key,
        status: bool,
        mut body: Value,
        options: &ApplyOptions<'_>,
    ) -> Result<(Arc<Value>, bool), ApiError> {
        let kind = id.kind();
        strip_nulls(&mut body);
        check_type(kind, &key.0, &mut body)?;
        let manager = if status { format!("{}/status", options.manager) } else { options.manager.to_owned() };
        let wanted = applied_part(kind, &body, status);
        let Some(entry) = self.find(id, key).cloned() else {
            if status || !meta_str(&body, "uid").is_empty() {
                return Err(ApiError::not_found(kind, &key.1));
            }
            metadata_mut(&mut body).insert("name".into(), json!(key.1));
            let applied = BTreeMap::from([(manager, wanted)]);
            return self.create_applied(id, &key.0, body, applied).map(|object| (object, true));
        };
        let mut object = Value::clone(&entry.object);
        let mut applied = entry.applied;
        let before = applied.remove(&manager);
        settle_conflicts(&object, &wanted, &mut applied, options.force)?;
        let others: Vec<&Value> = applied.values().collect();
        apply::apply(&mut object, before.as_ref(), &wanted, &others);
        for field in ["resourceVersion", "uid"] {
            if let Some(given) = body["metadata"].get(field) {
                metadata_mut(&mut object).insert(field.to_owned(), given.clone());
            }
        }
        applied.insert(manager, wanted);
        self.replace(id, key, status, object, applied).map(|object| (object, false))
    }

    /// DELETE, with the preconditions of `DeleteOptions`.
    pub(crate) fn delete_checked(
        &mut self,
        id: KindId,
        key: &Key,
        options: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        let entry = self.get(id, key)?;
        if options["propagationPolicy"] == "Orphan" {
            return Err(ApiError::bad_request(
                "propagationPolicy Orphan is not supported by the in-memory API",
            ));
        }
        for field in ["uid", "resourceVersion"] {
            let wanted = options["preconditions"][field].as_str();
            if wanted.is_some_and(|wanted| wanted != meta_str(&entry.object, field)) {
                let why = format!("Precondition failed: {field} in precondition does not match");
                return Err(ApiError::conflict(id.kind(), &key.1, &why));
            }
        }
        self.delete(id, key).ok_or_else(|| ApiError::not_found(id.kind(), &key.1))
    }

    fn replace(
        &mut self,
        id: KindId,
        key: &Key,
        status: bool,
        mut new: Value,
        applied: BTreeMap<String, Value>,
    ) -> Result<Arc<Value>, ApiError> {
        let kind = id.kind();
        let old = self.get(id, key)?.object.clone();
        strip_nulls(&mut new);
        check_type(kind, &key.0, &mut new)?;
        check_same(kind, key, &old, &new)?;
        let mut new = if status { with_status_of(&old, &new) } else { with_rest_of(id, &old, new)? };
        defaults::on_write(id, &mut new);
        if new == *old {
            // Nothing is written, nobody is told: as with a real server.
            if let Some(entry) = self.find_mut(id, key) {
                entry.applied = applied;
            }
            return Ok(old);
        }
        Ok(self.commit(id, key, new, applied))
    }
}

/// What a write on the main path may not touch is taken from the old object.
fn with_rest_of(id: KindId, old: &Value, mut new: Value) -> Result<Value, ApiError> {
    let kind = id.kind();
    let name = meta_str(old, "name");
    let metadata = metadata_mut(&mut new);
    for field in SERVER_METADATA {
        set_or_remove(metadata, field, old["metadata"].get(field).cloned());
    }
    metadata.insert("name".into(), json!(name));
    if kind.status
        && let Some(map) = new.as_object_mut()
    {
        set_or_remove(map, "status", old.get("status").cloned());
    }
    if id == SERVICES {
        defaults::keep_address(old, &mut new);
    }
    if is_deleting(old) && finalizers(&new).any(|f| finalizers(old).all(|known| known != f)) {
        let why =
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
        return Err(ApiError::invalid(kind, name, why));
    }
    if kind.generation == Generation::Spec && spec_part(old) != spec_part(&new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        metadata_mut(&mut new).insert("generation".into(), json!(generation));
    }
    Ok(new)
}

fn settle_conflicts(
    live: &Value,
    wanted: &Value,
    applied: &mut BTreeMap<String, Value>,
    force: bool,
) -> Result<(), ApiError> {
    let others: Vec<&Value> = applied.values().collect();
    let conflicts = apply::conflicts(live, wanted, &others);
    let names: Vec<String> = applied.keys().cloned().collect();
    if !force && !conflicts.is_empty() {
        let list: Vec<String> = conflicts
            .iter()
            .map(|c| format!("conflict with \"{}\": .{}", names[c.manager], c.path.join(".")))
            .collect();
        let message = format!("Apply failed with {} conflict(s): {}", list.len(), list.join(", "));
        return Err(ApiError::new(409, "Conflict", message));
    }
    for conflict in conflicts {
        if let Some(theirs) = applied.get_mut(&names[conflict.manager]) {
            apply::surrender(theirs, &conflict.path);
        }
    }
    Ok(())
}

/// The part of an applied object that its manager means: no identity, and status only on the status path.
fn applied_part(kind: &Kind, body: &Value, status: bool) -> Value {
    let mut part = body.clone();
    let Some(map) = part.as_object_mut() else { return part };
    if status {
        map.retain(|field, _| field == "status");
        return part;
    }
    map.remove("apiVersion");
    map.remove("kind");
    if kind.status {
        map.remove("status");
    }
    let metadata = metadata_mut(&mut part);
    metadata.remove("name");
    metadata.remove("namespace");
    for field in SERVER_METADATA {
        metadata.remove(*field);
    }
    part
}

fn with_status_of(old: &Value, new: &Value) -> Value {
    let mut object = old.clone();
    if let Some(map) = object.as_object_mut() {
        set_or_remove(map, "status", new.get("status").cloned());
    }
    object
}

/// All that `metadata.generation` counts.
fn spec_part(object: &Value) -> Map<String, Value> {
    let mut map = object.as_object().cloned().unwrap_or_default();
    map.remove("metadata");
    map.remove("status");
    map
}

fn stamp_new(kind: &Kind, object: &mut Value, uid: &str) {
    let metadata = metadata_mut(object);
    for field in SERVER_METADATA {
        metadata.remove(*field);
    }
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(timestamp()));
    if kind.generation != Generation::None {
        metadata.insert("generation".into(), json!(1));
    }
}

/// Type and namespace of an object must be those of the path; what is missing is filled in.
fn check_type(kind: &Kind, namespace: &str, object: &mut Value) -> Result<(), ApiError> {
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request("the body of the request is not an object"));
    };
    for (field, wanted) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_owned())] {
        match map.get(field).and_then(Value::as_str) {
            Some(given) if given != wanted => {
                let message =
                    format!("the {field} in the data ({given}) does not match the expected one ({wanted})");
                return Err(ApiError::bad_request(message));
            }
            _ => map.insert(field.to_owned(), json!(wanted)),
        };
    }
    let given = meta_str(object, "namespace");
    if !given.is_empty() && given != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if kind.namespaced {
        metadata_mut(object).insert("namespace".into(), json!(namespace));
    }
    Ok(())
}

/// Name, UID and resourceVersion, where they are given, must be those of the object that is there.
fn check_same(kind: &Kind, key: &Key, old: &Value, new: &Value) -> Result<(), ApiError> {
    let name = meta_str(new, "name");
    if !name.is_empty() && name != key.1 {
        return Err(ApiError::bad_request("the name of the object does not match the name on the URL"));
    }
    let differs = |field| !meta_str(new, field).is_empty() && meta_str(new, field) != meta_str(old, field);
    if differs("uid") {
        return Err(ApiError::conflict(
            kind,
            &key.1,
            "Precondition failed: UID in precondition does not match",
        ));
    }
    if differs("resourceVersion") {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(ApiError::conflict(kind, &key.1, why));
    }
    Ok(())
}

/// RFC 1123: what names of most kinds have to be.
fn is_subdomain(name: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(|c| edge(*c))
                && bytes.last().is_some_and(|c| edge(*c))
                && bytes.iter().all(|c| edge(*c) || *c == b'-')
        })
}
