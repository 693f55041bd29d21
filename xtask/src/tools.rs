//! The Go programs of the end-to-end tests: built once into a cache beside cargo's target folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// What `kubectl version` says; must match e2e/hyperkube/go.mod.
const KUBERNETES: &str = "v1.34.2";
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.18.6";
/// aquatic's trackers and load testers, and their features. Not `prometheus`: what it needs does not build any more.
const AQUATIC: [(&str, &str); 4] = [
    ("aquatic_udp", "mimalloc,io-uring"),
    ("aquatic_http", "mimalloc"),
    ("aquatic_udp_load_test", ""),
    ("aquatic_http_load_test", ""),
];
const AQUATIC_VERSION: &str = "0.9.0";
/// Before a download that failed is tried again.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_mins(1)];
/// Programs that a cluster on this machine needs besides ours, and the Debian package of each.
const PROGRAMS: [(&str, &str); 11] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
];

/// The folder of the programs.
#[derive(Debug, Clone)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Where they are or would be: `SAMARA_TOOLS`, else `e2e-tools` in cargo's target folder.
    pub fn locate() -> Self {
        let target =
            || std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
        let dir = std::env::var_os("SAMARA_TOOLS").map_or_else(|| target().join("e2e-tools"), PathBuf::from);
        Self { dir }
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Builds what is missing or older than its source; 4 to 10 minutes the first time, nothing afterwards.
    pub fn build() -> Result<Self> {
        let tools = Self::locate();
        fs::create_dir_all(&tools.dir).with_context(|| tools.dir.display().to_string())?;
        // Two test programs may start at once.
        let lock = fs::File::create(tools.dir.join("lock"))?;
        lock.lock()?;
        tools.build_module()?;
        tools.build_helm()?;
        Ok(tools)
    }

    /// Builds aquatic, which trackers are compared with, and answers the folder of its programs; 10 to 20 minutes the first time.
    pub fn build_aquatic() -> Result<PathBuf> {
        let tools = Self::locate();
        fs::create_dir_all(&tools.dir).with_context(|| tools.dir.display().to_string())?;
        let lock = fs::File::create(tools.dir.join("lock"))?;
        lock.lock()?;
        let scratch = tools.dir.join("aquatic");
        for (name, features) in AQUATIC {
            let (program, key) = (format!("bin/{name}"), format!("{AQUATIC_VERSION} {features}"));
            if tools.is_current(&program, &key) {
                continue;
            }
            eprintln!("building {name} (the first time takes minutes)");
            let mut install = Command::new(cargo_program());
            install.current_dir(workspace()).args([
                "install",
                "--quiet",
                "--locked",
                "--force",
                "--no-default-features",
            ]);
            install
                .args(["--version", AQUATIC_VERSION, "--features", features, name, "--root"])
                .arg(&tools.dir);
            // Not ours: features and profile differ, and neither is to disturb the other.
            forget_package(install.env("CARGO_TARGET_DIR", &scratch));
            run(&mut install)?;
            tools.set_current(&program, &key)?;
        }
        // Half a GiB, shared by the four while they are built.
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        Ok(tools.dir.join("bin"))
    }

    /// Builds a containerd that images are tested with besides the machine's own, as `2.2` (`e2e/containerd-*`); 1 to 5 minutes the first time.
    pub fn build_containerd(release: &str) -> Result<PathBuf> {
        let major = if release.starts_with("1.") { "" } else { "/v2" };
        let name = format!("containerd-{release}");
        let package = format!("github.com/containerd/containerd{major}/cmd/containerd");
        Self::build_tool(&name, &format!("e2e/{name}"), &package)
    }

    /// Builds the conformance suite of the distribution specification; half a minute the first time.
    pub fn build_conformance() -> Result<PathBuf> {
        let package = "github.com/opencontainers/distribution-spec/conformance";
        Self::build_tool("distribution-conformance", "e2e/distribution", package)
    }

    /// Builds somebody else's Go program, whose version stands in the go.mod of `folder`.
    fn build_tool(name: &str, folder: &str, package: &str) -> Result<PathBuf> {
        let tools = Self::locate();
        fs::create_dir_all(&tools.dir).with_context(|| tools.dir.display().to_string())?;
        let lock = fs::File::create(tools.dir.join("lock"))?;
        lock.lock()?;
        let source = workspace().join(folder);
        let key = key(&["go.mod", "go.sum"].map(|file| source.join(file)), package)?;
        if !tools.is_current(name, &key) {
            eprintln!("building {name} (Go; the first time takes minutes)");
            let mut go = go();
            go.current_dir(&source).args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                "-s -w",
                "-o",
            ]);
            run_with_network(go.arg(tools.dir.join(name)).arg(package))?;
            tools.set_current(name, &key)?;
        }
        Ok(tools.dir.join(name))
    }

    /// Whether Go is there to build them.
    pub fn can_build() -> bool {
        is_installed("go")
    }

    /// A program: ours if it is built, else the one in PATH.
    pub fn path(&self, name: &str) -> PathBuf {
        let own = self.dir.join(name);
        if own.exists() { own } else { PathBuf::from(name) }
    }

    /// Whether all are there, be they current or not.
    pub fn are_built(&self) -> bool {
        ["hyperkube", "toolbox", "kubectl", "helm"].iter().all(|name| self.dir.join(name).exists())
    }

    fn build_module(&self) -> Result<()> {
        let source = workspace().join("e2e/hyperkube");
        let files = ["go.mod", "go.sum", "main.go", "toolbox/main.go"].map(|file| source.join(file));
        let key = key(&files, KUBERNETES)?;
        if self.is_current("hyperkube", &key) && self.dir.join("toolbox").exists() {
            return Ok(());
        }
        let version = "k8s.io/component-base/version";
        let flags = format!(
            "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=34"
        );
        for (name, package, flags) in [("toolbox", "./toolbox", "-s -w"), ("hyperkube", ".", flags.as_str())]
        {
            eprintln!("building {name} (Go; the first time takes minutes)");
            let mut go = go();
            go.current_dir(&source).args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-tags",
                "netgo osusergo",
            ]);
            go.args(["-ldflags", flags, "-o"]).arg(self.dir.join(name)).arg(package);
            run_with_network(&mut go)?;
        }
        let link = self.dir.join("kubectl");
        if !link.exists() {
            std::os::unix::fs::symlink("hyperkube", &link)?;
        }
        self.set_current("hyperkube", &key)
    }

    fn build_helm(&self) -> Result<()> {
        // Without these helm believes that it talks to Kubernetes 1.20, and calls itself v3.0.
        let (capabilities, version) = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/internal/version");
        let flags = format!(
            "-s -w -X {capabilities}.k8sVersionMajor=1 -X {capabilities}.k8sVersionMinor=34 -X {version}.version={}",
            HELM.rsplit_once('@').map_or("", |(_, version)| version),
        );
        let key = key(&[], &format!("{HELM} {flags}"))?;
        if self.is_current("helm", &key) {
            return Ok(());
        }
        eprintln!("building helm (Go)");
        run_with_network(go().env("GOBIN", &self.dir).args([
            "install",
            "-trimpath",
            "-ldflags",
            &flags,
            HELM,
        ]))?;
        self.set_current("helm", &key)
    }

    fn is_current(&self, name: &str, key: &str) -> bool {
        self.dir.join(name).exists()
            && fs::read_to_string(self.dir.join(format!("{name}.key"))).is_ok_and(|k| k == key)
    }

    fn set_current(&self, name: &str, key: &str) -> Result<()> {
        Ok(fs::write(self.dir.join(format!("{name}.key")), key)?)
    }
}

fn go() -> Command {
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0");
    go
}

/// What the programs are made of: files, version, toolchain.
fn key(files: &[PathBuf], version: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(version);
    for file in files {
        hash.update(fs::read(file).with_context(|| file.display().to_string())?);
    }
    Ok(crate::oci::hex(&hash.finalize()))
}

/// Runs a program and lets it talk to the terminal; anything but exit code 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("{}: cannot start", command.get_program().display()))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The same for one that may have to download something: it is run again after each of [`PAUSES`], since a module proxy fails now and
/// then. What has been downloaded and compiled by then is kept.
fn run_with_network(command: &mut Command) -> Result<()> {
    for pause in PAUSES {
        let Err(error) = run(command) else { return Ok(()) };
        eprintln!("{error:#}; once more in {} s", pause.as_secs());
        std::thread::sleep(pause);
    }
    run(command)
}

/// The cargo that runs this program, or the one in PATH.
pub fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// cargo in the root of the source tree, wherever this program was called from.
pub fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(cargo_program());
    cargo.current_dir(workspace()).env("CARGO_TARGET_DIR", target()).args(args);
    forget_package(&mut cargo);
    cargo
}

/// What the cargo that runs us said about our own package is not passed on: build scripts (ring's) watch it, and the same build would
/// begin anew from every program.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
}

/// cargo's folder for what it builds.
pub fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    named.and_then(|folder| std::path::absolute(folder).ok()).unwrap_or_else(|| workspace().join("target"))
}

/// The root of the source tree.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// What keeps this machine from running a cluster, each with how to mend it; empty if nothing does.
pub fn missing() -> Vec<String> {
    let mut missing = missing_for_namespaces(&PROGRAMS);
    if !Tools::locate().are_built() && !is_installed("go") {
        missing.push("no Go (https://go.dev/dl, 1.24 or later) to build the cluster's programs".into());
    }
    missing
}

/// What keeps this machine from running a container runtime in namespaces of its own, each with how to mend it; empty if nothing does.
pub fn missing_for_runtime() -> Vec<String> {
    missing_for_namespaces(&[
        ("containerd", "containerd"),
        ("unshare", "util-linux"),
        ("ip", "iproute2"),
        ("mount", "mount"),
    ])
}

/// What keeps this machine from mounting disks and cutting their power, each with how to mend it; empty if nothing does.
pub fn missing_for_disks() -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("loop devices need Linux".into());
    } else if !Path::new("/dev/loop-control").exists() {
        missing.push("no loop devices: modprobe loop, or in a container give it /dev/loop-control".into());
    }
    missing.extend(missing_for_root(&[
        ("mkfs.ext4", "e2fsprogs"),
        ("mount", "mount"),
        ("umount", "mount"),
        ("fsfreeze", "util-linux"),
        ("unshare", "util-linux"),
    ]));
    missing
}

fn missing_for_namespaces(programs: &[(&str, &str)]) -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("network and mount namespaces need Linux".into());
    }
    missing.extend(missing_for_root(programs));
    missing
}

/// What root lacks of these programs, each with the package that has it; and root itself.
fn missing_for_root(programs: &[(&str, &str)]) -> Vec<String> {
    let root = (!is_root()).then(|| "needs root: run it with sudo -E".to_owned());
    let absent = programs.iter().filter(|(program, _)| !is_installed(program));
    root.into_iter()
        .chain(absent.map(|(program, package)| format!("no {program}: apt-get install {package}")))
        .collect()
}

fn is_root() -> bool {
    // The owner of our own /proc entry is our effective user.
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether `program` is in PATH, or, with a slash, exists.
pub fn is_installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
