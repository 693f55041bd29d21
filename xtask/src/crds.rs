//! `cargo xtask crds`: the CRDs as YAML, made from the types of the `crds` crate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Where they lie, below the root of the workspace: for people, and for Helm.
const FOLDERS: [&str; 2] = ["crds/manifests", "charts/samara/crds"];
const HEADER: &str = "# Made by `cargo xtask crds` from the types in crds/src: edit those.\n";

/// Writes the files, or with `check` fails if one of them is not as it would be written.
pub fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut stale = Vec::new();
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        for crd in ::crds::all() {
            let (path, text) = (folder.join(file_name(&crd)), yaml(&crd)?);
            if fs::read_to_string(&path).is_ok_and(|now| now == text) {
                continue;
            }
            if check {
                stale.push(path.strip_prefix(root).unwrap_or(&path).display().to_string());
                continue;
            }
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        stale.extend(strangers(&folder)?.iter().map(|path| path.display().to_string()));
    }
    if !stale.is_empty() {
        bail!(
            "not up to date: {}; run `cargo xtask crds` (and delete what is no longer a kind)",
            stale.join(", ")
        );
    }
    Ok(())
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}.yaml", crd.spec.group, crd.spec.names.plural)
}

fn yaml(crd: &CustomResourceDefinition) -> Result<String> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(crd)?))
}

/// Files in the folder that no kind has.
fn strangers(folder: &Path) -> Result<Vec<PathBuf>> {
    let known: Vec<String> = ::crds::all().iter().map(file_name).collect();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut strangers = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| folder.display().to_string())?;
        if !known.contains(&entry.file_name().to_string_lossy().into_owned()) {
            strangers.push(entry.path());
        }
    }
    Ok(strangers)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_files_are_up_to_date() {
        super::run(true).unwrap();
    }
}
