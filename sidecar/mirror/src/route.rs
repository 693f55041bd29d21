//! What a request asks for: a pure function from its path and query.

use crate::name::{Digest, NameError, Reference, Repository};

/// Paths longer than this are not looked at: repository, digest, and room.
const MAX_PATH: usize = 1024;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: is this a registry?
    Base,
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Repository, Reference, Form),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Repository, Digest),
}

/// Where the registry of a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In the query (containerd), or nowhere.
    Beside,
    /// In front of the repository (CRI-O).
    InPath,
}

/// Why it is nothing that is served here. All are answered with 404, so that a runtime asks upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unroutable {
    /// No path of a pull.
    Unsupported,
    /// A registry or repository that cannot be.
    Name,
    /// A name without a registry, and none is set.
    NoRegistry,
    /// A manifest's reference that cannot be.
    Reference,
    /// A digest that cannot be, or is no SHA-256.
    Digest,
}

/// Takes a request apart. `default_host` is the registry of names that come without one.
pub(crate) fn route(
    path: &str,
    query: Option<&str>,
    default_host: Option<&str>,
) -> Result<Route, Unroutable> {
    if path == "/v2/" || path == "/v2" {
        return Ok(Route::Base);
    }
    let rest = path.strip_prefix("/v2/").filter(|_| path.len() <= MAX_PATH).ok_or(Unroutable::Unsupported)?;
    let (rest, last) = rest.rsplit_once('/').ok_or(Unroutable::Unsupported)?;
    let (name, kind) = rest.rsplit_once('/').ok_or(Unroutable::Unsupported)?;
    match kind {
        "manifests" => {
            let (repository, form) = repository(name, namespace(query)?, default_host)?;
            Ok(Route::Manifest(repository, last.parse().map_err(|_| Unroutable::Reference)?, form))
        }
        "blobs" => {
            let (repository, _) = repository(name, namespace(query)?, default_host)?;
            Ok(Route::Blob(repository, last.parse().map_err(|_| Unroutable::Digest)?))
        }
        _ => Err(Unroutable::Unsupported),
    }
}

/// The registry that containerd names in `?ns=`. Two of them, or an encoding that no host name needs, are none that we serve.
fn namespace(query: Option<&str>) -> Result<Option<String>, Unroutable> {
    let mut found = None;
    for pair in query.unwrap_or_default().split('&') {
        if let Some(value) = pair.strip_prefix("ns=")
            && found.replace(decode_colon(value)).is_some()
        {
            return Err(Unroutable::Name);
        }
    }
    Ok(found)
}

/// A host needs one character that some clients encode: the colon before its port, and brackets round an address.
fn decode_colon(value: &str) -> String {
    let mut text = value.to_owned();
    for (code, plain) in [("%3A", ":"), ("%3a", ":"), ("%5B", "["), ("%5b", "["), ("%5D", "]"), ("%5d", "]")]
    {
        text = text.replace(code, plain);
    }
    text
}

/// With a registry from the query (containerd), from the path's first part (CRI-O), or the default.
fn repository(
    name: &str,
    namespace: Option<String>,
    default_host: Option<&str>,
) -> Result<(Repository, Form), Unroutable> {
    let (made, form) = if let Some(host) = namespace {
        (Repository::new(&host, name), Form::Beside)
    } else if let Some((host, path)) = name.split_once('/').filter(|(first, _)| is_like_a_host(first)) {
        (Repository::new(host, path), Form::InPath)
    } else {
        (Repository::new(default_host.ok_or(Unroutable::NoRegistry)?, name), Form::Beside)
    };
    Ok((made.map_err(|_: NameError| Unroutable::Name)?, form))
}

/// As in an image's reference: what has a dot or a colon is a registry, and so is `localhost`.
fn is_like_a_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(host: &str, path: &str, reference: &str) -> Route {
        Route::Manifest(Repository::new(host, path).unwrap(), reference.parse().unwrap(), Form::Beside)
    }

    fn in_path(host: &str, path: &str, reference: &str) -> Route {
        Route::Manifest(Repository::new(host, path).unwrap(), reference.parse().unwrap(), Form::InPath)
    }

    #[test]
    fn containerd_names_the_registry_in_the_query() {
        assert_eq!(
            route("/v2/library/nginx/manifests/1.27", Some("ns=docker.io"), None),
            Ok(manifest("docker.io", "library/nginx", "1.27"))
        );
        assert_eq!(
            route("/v2/a/manifests/v1", Some("x=1&ns=127.0.0.1%3A5000"), None),
            Ok(manifest("127.0.0.1:5000", "a", "v1"))
        );
    }

    #[test]
    fn cri_o_names_the_registry_in_the_path() {
        assert_eq!(route("/v2/quay.io/a/b/manifests/v1", None, None), Ok(in_path("quay.io", "a/b", "v1")));
        assert_eq!(
            route("/v2/registry:5000/a/manifests/v1", None, Some("docker.io")),
            Ok(in_path("registry:5000", "a", "v1"))
        );
    }

    #[test]
    fn a_name_without_a_registry_is_of_the_default_one() {
        assert_eq!(
            route("/v2/library/nginx/manifests/v1", None, Some("docker.io")),
            Ok(manifest("docker.io", "library/nginx", "v1"))
        );
        assert_eq!(route("/v2/library/nginx/manifests/v1", None, None), Err(Unroutable::NoRegistry));
    }

    #[test]
    fn a_repository_may_be_called_manifests_or_blobs() {
        let digest = Digest::of(b"x");
        assert_eq!(
            route(&format!("/v2/manifests/blobs/blobs/{digest}"), Some("ns=a.b"), None),
            Ok(Route::Blob(Repository::new("a.b", "manifests/blobs").unwrap(), digest))
        );
    }

    #[test]
    fn t106_no_path_leads_anywhere_else() {
        for path in [
            "/",
            "/v1/",
            "/v2//",
            "/v2/a",
            "/v2/a/b",
            "/v2/_catalog",
            "/v2/a/tags/list",
            "/v2/a/referrers/sha256:0",
            "/v2/a/blobs/uploads/",
            "/v2/../a/blobs/x",
            "/v2/a%2f..%2fb/blobs/x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%00",
            "/v2/A/manifests/v1",
            "/v2//manifests/v1",
            "/v2/manifests/v1",
        ] {
            assert!(route(path, Some("ns=docker.io"), None).is_err(), "{path}");
        }
        let long = format!("/v2/{}/manifests/v1", "a/".repeat(1000));
        assert_eq!(route(&long, Some("ns=docker.io"), None), Err(Unroutable::Unsupported));
        for query in ["ns=a.b&ns=c.d", "ns=", "ns=http://a", "ns=a.b/c", "ns=..", "ns=a%2fb"] {
            assert_eq!(route("/v2/a/manifests/v1", Some(query), None), Err(Unroutable::Name), "{query}");
        }
    }
}
