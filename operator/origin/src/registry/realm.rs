//! Which token servers are asked, and which of them see a password (T94, CVE-2026-33540). Pure.

use url::Url;

use crate::client::checked;
use crate::guard::HostRules;

/// Registries whose token server has another name, as their makers document it.
const KNOWN: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// The URL to ask, if it may be: over TLS, or on the host of a registry that is itself spoken to without. With a password only on the
/// registry's own host, at a known pair, or where the class's `origin.allow` names the host.
pub(super) fn check(
    registry: &Url,
    realm: &str,
    with_password: bool,
    allowed: &HostRules,
) -> Result<Url, &'static str> {
    let url = checked(realm).map_err(|_| "it is not a URL that is ever asked")?;
    let (Some(ours), Some(theirs)) = (registry.host_str(), url.host_str()) else {
        return Err("it names no host");
    };
    let same = ours == theirs;
    if url.scheme() == "http" && !(registry.scheme() == "http" && same) {
        return Err("it is http, which is only asked on the host of a registry that is http too");
    }
    if with_password && !same && !KNOWN.contains(&(ours, theirs)) && !allowed.has(theirs) {
        return Err(
            "passwords go to the registry's own host only; an admin can name this one in the class's origin.allow",
        );
    }
    Ok(url)
}
