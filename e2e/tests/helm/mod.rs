//! Helm, and the chart through it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;

/// What the project is tested with (helm without build flags would assume 1.20).
pub const KUBE_VERSION: &str = "1.34.2";

/// The chart's folder.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/samara")
}

/// Helm from `SAMARA_TOOLS` or the `PATH`; without it the test says that it was skipped, and fails under `CI=true`.
pub fn helm() -> Option<PathBuf> {
    let tools = std::env::var_os("SAMARA_TOOLS").into_iter().collect::<Vec<OsString>>();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = tools.into_iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join("helm")).find(|helm| helm.is_file());
    if found.is_none() {
        let how = "helm is not in SAMARA_TOOLS or on the PATH: `go install helm.sh/helm/v3/cmd/helm@v3.18.6`";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{how}");
        eprintln!("skipped: {how}");
    }
    found
}

/// Runs helm.
pub fn run(helm: &Path, args: &[&str]) -> Output {
    Command::new(helm).args(args).output().expect("helm starts")
}

/// Renders with these values; an error is helm's own text.
pub fn render(helm: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>, String> {
    render_for(helm, namespace, values, KUBE_VERSION)
}

/// The same for another version of Kubernetes.
pub fn render_for(helm: &Path, namespace: &str, values: &Value, version: &str) -> Result<Vec<Value>, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("values.json");
    fs::write(&file, values.to_string()).expect("written");
    let (chart, file) = (chart(), file.to_string_lossy().into_owned());
    let output = run(
        helm,
        &[
            "template",
            "any",
            &chart.to_string_lossy(),
            "-n",
            namespace,
            "--kube-version",
            version,
            "-f",
            &file,
        ],
    );
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    Ok(documents.map(|document| document.expect("YAML")).filter(|document| !document.is_null()).collect())
}
