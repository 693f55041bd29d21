//! The documentation holds against the tree: links lead somewhere, every reason is explained, examples are of the API.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crds::{DistributionClassSpec, DistributionSpec};
use serde::Deserialize;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path);
    assert!(text.is_ok(), "{}: {text:?}", path.display());
    text.unwrap_or_default()
}

/// Every Markdown file of the root and of `docs/`.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder exists");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// What stands between `](` and `)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        for link in links(&read(&page)).filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            let titles = read(&target).to_lowercase().replace(' ', "-");
            assert!(
                anchor.is_empty() || titles.contains(&format!("#-{anchor}\n")),
                "{}: {link}",
                page.display()
            );
        }
    }
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("the folder exists").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = |path: &PathBuf| path.extension().is_some_and(|end| end == "rs");
    files.into_iter().filter(rust).chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// The reasons that all parts share, and those that a source makes up where it needs them.
fn reasons() -> BTreeSet<String> {
    let shared = read(&root().join("operator/api/src/lib.rs"));
    let constants =
        shared.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": &str = \""));
    let mut reasons: BTreeSet<String> =
        constants.map(|(_, value)| value.trim_end_matches("\";").to_owned()).collect();
    for file in sources(&root().join("operator/src")) {
        let text = read(&file);
        let text = text.split("mod tests {").next().unwrap_or_default();
        for call in ["Failure::new(", "refused("] {
            let literals = text
                .split(call)
                .skip(1)
                .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"'));
            reasons.extend(literals.map(|(reason, _)| reason.to_owned()));
        }
    }
    reasons.retain(|reason| {
        reason.starts_with(|c: char| c.is_ascii_uppercase())
            && reason.chars().all(|c| c.is_ascii_alphanumeric())
    });
    reasons
}

#[test]
fn every_reason_is_explained() {
    let explained = read(&root().join("docs/troubleshooting.md"));
    let reasons = reasons();
    assert!(reasons.len() > 18 && reasons.contains("CopyLost"), "{reasons:?}");
    let silent = |reason: &&String| !explained.contains(&format!("| `{reason}` |"));
    let silent: Vec<_> = reasons.iter().filter(silent).collect();
    assert!(silent.is_empty(), "docs/troubleshooting.md does not explain {silent:?}");
}

/// The YAML blocks of a page.
fn examples(text: &str) -> impl Iterator<Item = &str> {
    text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(yaml, _)| yaml)
}

#[test]
fn examples_are_of_the_api() {
    let mut seen = 0;
    for page in pages() {
        for example in examples(&read(&page)) {
            for document in serde_yaml::Deserializer::from_str(example) {
                let written = Value::deserialize(document).expect("YAML");
                let spec = written["spec"].clone();
                let understood = match written["kind"].as_str() {
                    Some("Distribution") => {
                        serde_json::from_value::<DistributionSpec>(spec.clone()).map(serde_json::to_value)
                    }
                    Some("DistributionClass") => {
                        serde_json::from_value::<DistributionClassSpec>(spec.clone())
                            .map(serde_json::to_value)
                    }
                    _ => continue,
                };
                let understood =
                    understood.unwrap_or_else(|error| panic!("{error}: {example}")).expect("JSON");
                covers(&understood, &spec, example);
                seen += 1;
            }
        }
    }
    assert!(seen >= 3, "{seen} examples");
}

/// Nothing that the example says got lost.
fn covers(understood: &Value, written: &Value, example: &str) {
    match written {
        Value::Object(fields) => {
            for (key, value) in fields {
                assert!(understood.get(key).is_some(), "no such field: {key}: {example}");
                covers(&understood[key], value, example);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                covers(&understood[nth], item, example);
            }
        }
        _ => assert_eq!(understood, written, "{example}"),
    }
}
