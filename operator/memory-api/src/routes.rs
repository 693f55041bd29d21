//! From paths and queries to what is meant by them.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use http::{HeaderMap, header::ACCEPT};
use serde_json::{Value, json};

use crate::{
    error::ApiError,
    kinds::{KindId, NAMESPACES},
    selector::Selector,
    watch::{DEFAULT_TIMEOUT, WatchRequest},
};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// All objects of a kind, in one namespace or in all.
    Collection {
        id: KindId,
        namespace: Option<String>,
    },
    /// One object, or its status.
    Object {
        id: KindId,
        namespace: String,
        name: String,
        status: bool,
    },
    TokenReview,
    Version,
    Ready,
}

impl Route {
    pub(crate) fn parse(path: &str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts[..] {
            ["version"] => return Ok(Self::Version),
            ["readyz" | "livez" | "healthz"] => return Ok(Self::Ready),
            ["apis", "authentication.k8s.io", "v1", "tokenreviews"] => return Ok(Self::TokenReview),
            ["api", version, ref rest @ ..] => ("", version, rest),
            ["apis", group, version, ref rest @ ..] => (group, version, rest),
            _ => return Err(ApiError::no_such_resource()),
        };
        Self::resource(group, version, rest).ok_or_else(ApiError::no_such_resource)
    }

    fn resource(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        let object = |id, namespace: &str, name: &str, status| Self::Object {
            id,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            status,
        };
        match *rest {
            ["namespaces", name, "status"] if group.is_empty() => Some(object(NAMESPACES, "", name, true)),
            ["namespaces", namespace, plural, ref rest @ ..] => {
                let id = KindId::by_path(group, version, plural).filter(|id| id.kind().namespaced)?;
                match *rest {
                    [] => Some(Self::Collection { id, namespace: Some(namespace.to_owned()) }),
                    [name] => Some(object(id, namespace, name, false)),
                    [name, "status"] if id.kind().status => Some(object(id, namespace, name, true)),
                    _ => None,
                }
            }
            [plural] => {
                Some(Self::Collection { id: KindId::by_path(group, version, plural)?, namespace: None })
            }
            [plural, name, ref rest @ ..] => {
                let id = KindId::by_path(group, version, plural).filter(|id| !id.kind().namespaced)?;
                match *rest {
                    [] => Some(object(id, "", name, false)),
                    ["status"] if id.kind().status => Some(object(id, "", name, true)),
                    _ => None,
                }
            }
            [] => None,
        }
    }
}

/// The query of a URL, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let own = |(key, value): (Cow<'_, str>, Cow<'_, str>)| (key.into_owned(), value.into_owned());
        let query = Self(pairs.map(own).collect());
        if query.get("dryRun").is_some() {
            return Err(ApiError::bad_request("dryRun is not supported by the in-memory API"));
        }
        Ok(query)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    pub(crate) fn selector(&self) -> Result<Selector, ApiError> {
        Selector::parse(self.get("labelSelector"), self.get("fieldSelector"))
    }

    pub(crate) fn watch(
        &self,
        id: KindId,
        namespace: Option<String>,
        view: View,
    ) -> Result<WatchRequest, ApiError> {
        let mark_initial = self.is_true("sendInitialEvents");
        let revision = match self.get("resourceVersion") {
            None | Some("0") => None,
            Some(_) if mark_initial => None,
            Some(text) => Some(text.parse().map_err(|_| {
                ApiError::bad_request(format!("invalid resource version {text:?}: it is not a number"))
            })?),
        };
        let seconds = self.get("timeoutSeconds").and_then(|s| s.parse().ok()).filter(|s| *s > 0);
        Ok(WatchRequest {
            id,
            namespace,
            selector: self.selector()?,
            view,
            revision,
            mark_initial,
            bookmarks: self.is_true("allowWatchBookmarks"),
            timeout: seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        })
    }
}

/// How much of an object the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    /// `as=PartialObjectMetadata` in the Accept header.
    Metadata,
}

impl View {
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("as=PartialObjectMetadata") { Self::Metadata } else { Self::Whole }
    }

    pub(crate) fn of(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => json!({
                "apiVersion": "meta.k8s.io/v1",
                "kind": "PartialObjectMetadata",
                "metadata": object["metadata"],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let id = |group, version, plural| KindId::by_path(group, version, plural).unwrap();
        let pods = id("", "v1", "pods");
        assert_eq!(Route::parse("/api/v1/pods").unwrap(), Route::Collection { id: pods, namespace: None });
        assert_eq!(
            Route::parse("/api/v1/namespaces/a/pods").unwrap(),
            Route::Collection { id: pods, namespace: Some("a".into()) }
        );
        assert_eq!(
            Route::parse("/api/v1/namespaces/a").unwrap(),
            Route::Object { id: NAMESPACES, namespace: String::new(), name: "a".into(), status: false }
        );
        assert_eq!(
            Route::parse("/apis/samara.dev/v1alpha1/namespaces/a/distributions/d/status").unwrap(),
            Route::Object {
                id: id("samara.dev", "v1alpha1", "distributions"),
                namespace: "a".into(),
                name: "d".into(),
                status: true
            }
        );
        for nothing in [
            "/apis/samara.dev/v1alpha1/distributionrevisions/r/status",
            "/apis/samara.dev/v1alpha1/distributions/d",
            "/apis/apps/v1/daemonsets",
            "/",
        ] {
            assert_eq!(Route::parse(nothing).unwrap_err().code, 404, "{nothing}");
        }
    }
}
