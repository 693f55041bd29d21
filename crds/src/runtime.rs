//! `runtime` of a class: what container runtimes share besides the images of `Distribution`s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::parse_quantity;

/// What nodes keep for each other of images that no `Distribution` names, where the class does not say: 10 GiB.
const CACHE: u64 = 10 << 30;

/// Images on demand: an ordinary pull of an image that no `Distribution` names is shared between the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeRules {
    /// Registries whose public layers nodes read once between them: `host`, `host:port`, `*.suffix` or `*.suffix:port`, as images name
    /// them (`docker.io`). An entry without a port is one of names without a port. None: nothing is fetched on demand.
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^((\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[a-fA-F0-9:]+\])(:[0-9]{1,5})?$"
            )
        )
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<String>,
    /// The most bytes of such layers that one node keeps for the others, beside `quota`; as a number of bytes or with a suffix. Without it
    /// 10Gi.
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

impl RuntimeRules {
    /// Whether what this registry (`host[:port]`) has is shared on demand.
    pub fn lists(&self, registry: &str) -> bool {
        let (host, port) = host_and_port(registry);
        let fits = |rule: &String| {
            let (name, of_port) = host_and_port(rule);
            let named = match name.strip_prefix('*') {
                Some(suffix) => ends_with(host, suffix),
                None => name.eq_ignore_ascii_case(host),
            };
            named && port == of_port
        };
        !host.is_empty() && self.registries.iter().any(fits)
    }

    /// The most bytes that one node keeps.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.as_deref().and_then(parse_quantity).unwrap_or(CACHE)
    }
}

/// A colon inside brackets is one of the address.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// Whether something stands before the suffix, and then it.
fn ends_with(host: &str, suffix: &str) -> bool {
    let at = host.len().checked_sub(suffix.len()).filter(|at| *at > 0);
    at.and_then(|at| host.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(registries: &[&str]) -> RuntimeRules {
        RuntimeRules { registries: registries.iter().map(|&rule| rule.to_owned()).collect(), cache: None }
    }

    #[test]
    fn a_registry_is_listed_by_its_name_and_port() {
        let listed =
            rules(&["docker.io", "registry.lan:5000", "*.example.com", "*.corp:5000", "[fd00::1]:5000"]);
        let yes = [
            "docker.io",
            "Docker.IO",
            "registry.lan:5000",
            "a.example.com",
            "a.b.Example.com",
            "a.corp:5000",
            "[fd00::1]:5000",
        ];
        for registry in yes {
            assert!(listed.lists(registry), "{registry}");
        }
        let no = [
            "",
            "io",
            "xdocker.io",
            "docker.io:443",
            "registry.lan",
            "registry.lan:5001",
            "example.com",
            ".example.com",
            "a.example.com:22",
            "aexample.com",
            "a.example.com.evil.org",
            "a.corp",
            "[fd00::1]",
            "ü.example.org",
        ];
        for registry in no {
            assert!(!listed.lists(registry), "{registry}");
        }
        assert!(!rules(&[]).lists("docker.io"), "off by default");
    }

    #[test]
    fn the_cache_has_a_size() {
        assert_eq!(rules(&[]).cache_bytes(), 10 << 30);
        assert_eq!(RuntimeRules { cache: Some("2Gi".into()), ..rules(&[]) }.cache_bytes(), 2 << 30);
    }
}
