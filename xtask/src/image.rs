//! The image of the three daemons: static binaries FROM scratch, as an OCI archive, without an image builder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::oci::{Image, Layer};
use crate::tools::{self, Tools};

/// The daemons, each in a layer of its own, in the order of how rarely they change.
const BINARIES: [&str; 3] = ["samara-tracker", "samara-operator", "samara-sidecar"];
const PACKAGES: [&str; 3] = ["tracker", "operator", "sidecar"];
const TARGET: &str = "x86_64-unknown-linux-musl";
/// The chart's default repository; the tag is the workspace's version, as the chart's appVersion is.
const REPOSITORY: &str = "localhost/samara";

/// Builds the image under the chart's default name into the tools' folder and answers where it lies. `SAMARA_IMAGE` names an
/// archive to take instead, for tests of an image that was built before.
pub fn build_default() -> Result<PathBuf> {
    if let Some(archive) = std::env::var_os("SAMARA_IMAGE") {
        return Ok(archive.into());
    }
    let path = Tools::locate().dir().join("samara.tar");
    build(&default_name(), &path)?;
    Ok(path)
}

/// What the chart calls the image unless told otherwise.
pub fn default_name() -> String {
    format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"))
}

/// Builds the daemons and writes the image `name` to `out`; the same sources give the same bytes.
pub fn build(name: &str, out: &Path) -> Result<()> {
    let release = compile()?;
    let layers = BINARIES
        .iter()
        .map(|binary| {
            let path = release.join(binary);
            let content = fs::read(&path).with_context(|| path.display().to_string())?;
            Ok(Layer { path: (*binary).into(), content })
        })
        .collect::<Result<_>>()?;
    let image = Image { name: name.into(), annotations: annotations(), layers, ..Image::default() };
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    // Renamed into place: whoever reads the old one at this moment reads it to its end.
    let partial = out.with_extension(format!("{}.partial", std::process::id()));
    let mut file = std::io::BufWriter::new(fs::File::create(&partial)?);
    image.write(&mut file)?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    fs::rename(&partial, out).with_context(|| out.display().to_string())
}

/// Runs cargo and answers the folder of the binaries.
fn compile() -> Result<PathBuf> {
    let mut cargo = tools::cargo(&["build", "--locked", "--release", "--target", TARGET]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    for binary in BINARIES {
        cargo.args(["--bin", binary]);
    }
    tools::run(cargo.env("CARGO_ENCODED_RUSTFLAGS", flags()))?;
    Ok(tools::target().join(TARGET).join("release"))
}

/// Paths of this machine must not get into the binaries: they would not be the same on another.
fn flags() -> OsString {
    let home = std::env::var_os("CARGO_HOME")
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo").into_os_string()));
    let mut flags = OsString::new();
    for (from, to) in [(home, "/cargo"), (Some(tools::workspace().into_os_string()), "/samara")] {
        let Some(from) = from else { continue };
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

/// The keys of the OCI image specification that are known without asking anyone.
fn annotations() -> Vec<(String, String)> {
    let annotation = |key: &str, value: &str| (format!("org.opencontainers.image.{key}"), value.to_owned());
    vec![
        annotation("title", "samara"),
        annotation("description", "Peer-to-peer distribution of datasets and images to Kubernetes nodes"),
        annotation("version", env!("CARGO_PKG_VERSION")),
        annotation("licenses", env!("CARGO_PKG_LICENSE")),
    ]
}
