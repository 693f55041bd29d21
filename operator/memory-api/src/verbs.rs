//! What each verb does to a collection or to an object.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    error::ApiError,
    kinds::KindId,
    object::{is_deleting, meta_str},
    routes::{Query, Route, View},
    shared::Shared,
    store::Key,
    write::ApplyOptions,
};

/// The verbs of the API, as RBAC names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn of(route: &Route, method: &Method, query: &Query) -> Result<Self, ApiError> {
        match (route, method) {
            (Route::Collection { .. }, &Method::GET) if query.is_true("watch") => Ok(Self::Watch),
            (Route::Collection { .. }, &Method::GET) => Ok(Self::List),
            (Route::Collection { .. } | Route::TokenReview, &Method::POST) => Ok(Self::Create),
            (Route::Collection { .. }, &Method::DELETE) => Ok(Self::DeleteCollection),
            (Route::Object { .. } | Route::Version | Route::Ready, &Method::GET) => Ok(Self::Get),
            (Route::Object { .. }, &Method::PUT) => Ok(Self::Update),
            (Route::Object { .. }, &Method::PATCH) => Ok(Self::Patch),
            (Route::Object { status: false, .. }, &Method::DELETE) => Ok(Self::Delete),
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// All of a request but its route.
pub(crate) struct Asked<'a> {
    pub(crate) verb: Verb,
    pub(crate) query: &'a Query,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

impl Asked<'_> {
    pub(crate) fn view(&self) -> View {
        View::of_request(self.headers)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body).map_err(|error| {
            ApiError::bad_request(format!("the body of the request is not what it should be: {error}"))
        })
    }

    /// `DeleteOptions` may be missing.
    fn delete_options(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.json() }
    }

    fn content_type(&self) -> &str {
        let value = self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }
}

type Answer = Result<(StatusCode, Value), ApiError>;

pub(crate) fn on_collection(
    shared: &Shared,
    id: KindId,
    namespace: Option<&str>,
    asked: &Asked<'_>,
) -> Answer {
    let kind = id.kind();
    match asked.verb {
        Verb::Create if kind.namespaced && namespace.is_none() => Err(ApiError::method_not_allowed()),
        Verb::Create => {
            let body = asked.json()?;
            let object = shared.write(|store| store.create(id, namespace.unwrap_or_default(), body))?;
            Ok((StatusCode::CREATED, asked.view().of(&object)))
        }
        Verb::DeleteCollection => {
            let (selector, options) = (asked.query.selector()?, asked.delete_options()?);
            let deleted: Vec<Arc<Value>> = shared.write(|store| {
                let keys = store.keys(id, namespace, &selector);
                keys.iter().filter_map(|key| store.delete_checked(id, key, &options).ok()).collect()
            });
            Ok((StatusCode::OK, list_of(id, shared.lock().revision(), deleted.iter(), View::Whole)))
        }
        _ => {
            let selector = asked.query.selector()?;
            let store = shared.lock();
            let objects = store.list(id, namespace, &selector);
            Ok((StatusCode::OK, list_of(id, store.revision(), objects, asked.view())))
        }
    }
}

/// Always the whole list: `limit` is a wish that a server may leave unheard.
fn list_of<'a>(
    id: KindId,
    revision: u64,
    objects: impl Iterator<Item = &'a Arc<Value>>,
    view: View,
) -> Value {
    let kind = id.kind();
    let (api_version, list) = match view {
        View::Whole => (kind.api_version(), format!("{}List", kind.kind)),
        View::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
    };
    json!({
        "apiVersion": api_version,
        "kind": list,
        "metadata": {"resourceVersion": revision.to_string()},
        "items": objects.map(|object| view.of(object)).collect::<Vec<_>>(),
    })
}

pub(crate) fn on_object(shared: &Shared, id: KindId, key: &Key, status: bool, asked: &Asked<'_>) -> Answer {
    let object = match asked.verb {
        Verb::Update => {
            let body = asked.json()?;
            shared.write(|store| store.update(id, key, status, body))?
        }
        Verb::Patch => {
            let (object, made) = patch(shared, id, key, status, asked)?;
            let code = if made { StatusCode::CREATED } else { StatusCode::OK };
            return Ok((code, asked.view().of(&object)));
        }
        Verb::Delete => {
            let options = asked.delete_options()?;
            let object = shared.write(|store| store.delete_checked(id, key, &options))?;
            return Ok((StatusCode::OK, deleted(shared, id, key, &object)));
        }
        _ => shared.lock().get(id, key)?.object.clone(),
    };
    Ok((StatusCode::OK, asked.view().of(&object)))
}

fn patch(
    shared: &Shared,
    id: KindId,
    key: &Key,
    status: bool,
    asked: &Asked<'_>,
) -> Result<(Arc<Value>, bool), ApiError> {
    match asked.content_type() {
        "application/merge-patch+json" => {
            let body = asked.json()?;
            Ok((shared.write(|store| store.merge_patch(id, key, status, &body))?, false))
        }
        "application/json-patch+json" => {
            let body = asked.json()?;
            Ok((shared.write(|store| store.json_patch(id, key, status, &body))?, false))
        }
        "application/apply-patch+yaml" => {
            let body = asked.json()?;
            let manager = asked.query.get("fieldManager").ok_or_else(|| {
                ApiError::bad_request(
                    "PatchOptions is invalid: fieldManager: Required value: is required for apply patch",
                )
            })?;
            let options = ApplyOptions { manager, force: asked.query.is_true("force") };
            shared.write(|store| store.apply(id, key, status, body, &options))
        }
        other => Err(ApiError::unsupported_media_type(other)),
    }
}

/// The object while finalizers hold it, else a `Status`, as a real server does for most kinds.
fn deleted(shared: &Shared, id: KindId, key: &Key, object: &Value) -> Value {
    if is_deleting(object) && shared.lock().find(id, key).is_some() {
        return object.clone();
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": key.1, "group": id.kind().group, "kind": id.kind().plural, "uid": meta_str(object, "uid")},
    })
}
