//! `deny.toml` without cargo-deny: licences and banned crates, checked against what cargo says the daemons are made of.
//!
//! cargo-deny says more (sources, duplicates); this needs nothing but cargo, so that the check is never skipped.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::tools::{cargo, workspace};

/// Fails if a package has no licence that deny.toml allows, or is one that it bans.
pub fn check() -> Result<()> {
    let rules = fs::read_to_string(workspace().join("deny.toml")).context("deny.toml")?;
    let (allowed, banned) = (list(&rules, "allow = [")?, list(&rules, "deny = [")?);
    let platform = "x86_64-unknown-linux-musl";
    let metadata =
        cargo(&["metadata", "--format-version", "1", "--locked", "--filter-platform", platform]).output()?;
    if !metadata.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&metadata.stderr));
    }
    let metadata: Value = serde_json::from_slice(&metadata.stdout)?;
    let mut wrong = Vec::new();
    for package in resolved(&metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if banned.contains(name) {
            wrong.push(format!("{name} is banned"));
        } else if !is_allowed(licence, &allowed) {
            wrong.push(format!("{name}: licence {licence:?} is not allowed"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{} (deny.toml says why)", wrong.join("; ")) }
}

/// The packages that are really built, not those that only stand in the lock file.
fn resolved(metadata: &Value) -> impl Iterator<Item = &Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: BTreeSet<_> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages.iter().filter(move |package| package["id"].as_str().is_some_and(|id| ids.contains(id)))
}

/// The first quoted word of each line of the TOML list that begins with `start`.
fn list<'a>(toml: &'a str, start: &str) -> Result<BTreeSet<&'a str>> {
    let (_, rest) =
        toml.split_once(&format!("\n{start}")).with_context(|| format!("deny.toml has no `{start}`"))?;
    let (body, _) = rest.split_once("\n]").context("a list in deny.toml has no end")?;
    Ok(body
        .lines()
        .filter_map(|line| line.trim().strip_prefix('#').map_or(Some(line), |_| None)?.split('"').nth(1))
        .collect())
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is the old way to write OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    alternatives(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn alternatives(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut any = conjunction(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        any |= conjunction(words, allowed);
    }
    any
}

fn conjunction(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut all = licence(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        all &= licence(words, allowed);
    }
    all
}

fn licence(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    match words.next() {
        Some("(") => {
            let inner = alternatives(words, allowed);
            words.next_if_eq(&")").is_some() && inner
        }
        // An exception only ever gives more rights.
        Some(name) => {
            if words.next_if_eq(&"WITH").is_some() {
                words.next();
            }
            allowed.contains(name)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "BSD-3-Clause"]);
        for (expression, expected) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("(GPL-3.0 OR MIT) AND BSD-3-Clause", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT AND (GPL-3.0", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn lists_are_read_without_their_comments() {
        let toml = "x\nallow = [\n  # \"GPL\" is not\n  \"MIT\", # why\n  { crate = \"a\" },\n]\n";
        assert_eq!(list(toml, "allow = [").unwrap(), BTreeSet::from(["MIT", "a"]));
    }
}
