//! What the demo distributes: made-up bytes, a file, a folder, a URL, or what a manifest says.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use crds::Distribution;
use serde_json::{Value, json};

use super::{origin::Content, random::Random};
use crate::torrent_command::{Source, sources};

/// The most files that stand in a `Distribution` itself.
const MAX_INLINE: usize = 256;
/// What the manifest of a folder with more files is called; no file of the folder has a name without its prefix.
const MANIFEST: &str = "/manifest.json";
/// The prefix of the user's files.
const PREFIX: &str = "/data/";

/// A `Distribution`, and what the demo's own origin has to serve for it.
#[derive(Debug)]
pub struct Wanted {
    /// What to apply. Its URLs are complete.
    pub distribution: Distribution,
    /// By path; empty if the content comes from elsewhere.
    pub contents: HashMap<String, Content>,
}

impl Wanted {
    /// `size` made-up bytes.
    pub fn random(size: u64, base: &str) -> Result<Self> {
        let path = format!("{PREFIX}payload.bin");
        let files = json!({"files": [{"url": format!("{base}{path}"), "path": "payload.bin"}]});
        let content = Content::Random(Random { seed: rand::random() }, size);
        Ok(Self { distribution: distribution("demo", &files)?, contents: HashMap::from([(path, content)]) })
    }

    /// A file, a folder, or a URL.
    pub fn of_argument(argument: &str, base: &str) -> Result<Self> {
        if argument.starts_with("http://") || argument.starts_with("https://") {
            let files = json!({"files": [{"url": argument}]});
            return Ok(Self { distribution: distribution("demo", &files)?, contents: HashMap::new() });
        }
        let path = Path::new(argument);
        let sources = sources(path)?;
        let url_path = |source: &Source| format!("{PREFIX}{}", encode(source.path.as_str()));
        let mut contents: HashMap<String, Content> =
            sources.iter().map(|source| (url_path(source), Content::File(source.file.clone()))).collect();
        let list: Vec<Value> = sources
            .iter()
            .map(|source| {
                json!({"url": format!("{base}{}", url_path(source)), "path": source.path.as_str(), "size": source.size})
            })
            .collect();
        let http = if list.len() <= MAX_INLINE {
            json!({"files": list})
        } else {
            let manifest = serde_json::to_vec(&json!({"files": list}))?;
            contents.insert(MANIFEST.to_owned(), Content::Document(Bytes::from(manifest)));
            json!({"manifestURL": format!("{base}{MANIFEST}")})
        };
        Ok(Self { distribution: distribution("demo", &http)?, contents })
    }

    /// The one `Distribution` of a YAML file.
    pub fn of_manifest(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut found = None;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value: Value = serde::Deserialize::deserialize(document)
                .with_context(|| format!("{} is not YAML", path.display()))?;
            match value["kind"].as_str() {
                None if value.is_null() => {}
                Some("Distribution") if found.is_none() => found = Some(value),
                Some("Distribution") => {
                    bail!("{} has several Distributions; the demo takes one", path.display())
                }
                kind => bail!(
                    "{}: kind {} is nothing for the demo, which takes one Distribution",
                    path.display(),
                    kind.unwrap_or("?")
                ),
            }
        }
        let value = found.with_context(|| format!("{} has no Distribution", path.display()))?;
        let mut distribution: Distribution = serde_json::from_value(value)
            .with_context(|| format!("the Distribution in {}", path.display()))?;
        distribution.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        Ok(Self { distribution, contents: HashMap::new() })
    }

    /// How many bytes the demo's own origin has to give for one copy, as far as that is known beforehand.
    pub fn size(&self) -> u64 {
        let size = |content: &Content| match content {
            Content::Random(_, size) => *size,
            Content::File(path) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
            Content::Document(_) => 0,
        };
        self.contents.values().map(size).sum()
    }
}

fn distribution(name: &str, http: &Value) -> Result<Distribution> {
    let object = json!({
        "apiVersion": "samara.dev/v1alpha1",
        "kind": "Distribution",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": {"http": http}},
    });
    Ok(serde_json::from_value(object)?)
}

/// Percent-encodes all but RFC 3986's unreserved characters and the slash.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_served_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ä b")).unwrap();
        std::fs::write(folder.path().join("ä b/c#?"), "x").unwrap();
        let wanted = Wanted::of_argument(folder.path().to_str().unwrap(), "http://o").unwrap();
        let http = wanted.distribution.spec.source.http.unwrap();
        assert_eq!(http.files[0].url, "http://o/data/%C3%A4%20b/c%23%3F");
        assert_eq!(http.files[0].path.as_deref(), Some("ä b/c#?"));
        assert!(wanted.contents.contains_key("/data/%C3%A4%20b/c%23%3F"));
    }

    #[test]
    fn many_files_are_listed_in_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..=MAX_INLINE {
            std::fs::write(folder.path().join(n.to_string()), "x").unwrap();
        }
        let wanted = Wanted::of_argument(folder.path().to_str().unwrap(), "http://o").unwrap();
        assert_eq!(
            wanted.distribution.spec.source.http.unwrap().manifest_url.as_deref(),
            Some("http://o/manifest.json")
        );
        assert_eq!(wanted.contents.len(), MAX_INLINE + 2);
    }

    #[test]
    fn a_manifest_holds_one_distribution() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let one = "apiVersion: samara.dev/v1alpha1\nkind: Distribution\nmetadata: {name: a}\nspec: {source: {http: {files: [{url: \"http://o/a\"}]}}}\n";
        std::fs::write(file.path(), format!("---\n{one}")).unwrap();
        let wanted = Wanted::of_manifest(file.path()).unwrap();
        assert_eq!(wanted.distribution.metadata.namespace.as_deref(), Some("default"));
        for bad in [format!("{one}---\n{one}"), "kind: Pod\n".to_owned(), String::new(), "kind: [".to_owned()]
        {
            std::fs::write(file.path(), &bad).unwrap();
            assert!(Wanted::of_manifest(file.path()).is_err(), "{bad}");
        }
    }
}
