//! Debian's docker-registry in a network of its own, with images made here.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cluster::process::{Daemon, output, until};
use crate::cluster::{Namespace, Traffic};

/// Where it listens.
const PORT: u16 = 5000;
/// To push one blob.
const PUSH_TIMEOUT: Duration = Duration::from_mins(2);

/// A layer: a tar.
#[derive(Debug, Clone)]
pub struct Layer(pub Vec<u8>);

/// An image that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// `address:port/repository:tag`.
    pub reference: String,
    /// Of its manifest.
    pub digest: String,
}

/// A registry, which ends with this.
#[derive(Debug)]
pub struct Registry {
    namespace: Namespace,
    /// `address:port`, as it stands in references.
    pub host: String,
    folder: PathBuf,
    daemon: Daemon,
}

impl Registry {
    /// Starts it; what is pushed lies below `dir`.
    pub async fn start(namespace: Namespace, address: Ipv4Addr, dir: &Path) -> Result<Self> {
        let folder = dir.join(&namespace.name);
        std::fs::create_dir_all(&folder)?;
        let config = json!({
            "version": "0.1", "log": { "level": "info" }, "http": { "addr": format!("{address}:{PORT}") },
            "storage": { "filesystem": { "rootdirectory": folder.join("data") } },
        });
        let path = folder.join("config.yml");
        std::fs::write(&path, config.to_string())?;
        let mut command = namespace.command("docker-registry");
        command.arg("serve").arg(&path);
        let daemon = Daemon::spawn(command, &folder.join("log"))?;
        let registry = Self { namespace, host: format!("{address}:{PORT}"), folder, daemon };
        until("docker-registry", Duration::from_secs(20), || async {
            let mut get = registry.namespace.command("curl");
            get.args(["--silent", "--fail", &registry.url("")]);
            Ok(output(get, Duration::from_secs(5)).await?.success.then_some(()))
        })
        .await?;
        Ok(registry)
    }

    /// Limits the link, in bytes per second each way.
    pub async fn limit(&self, rate: Option<u64>) -> Result<()> {
        self.namespace.limit(rate, rate).await
    }

    /// What has gone over its link.
    pub async fn traffic(&self) -> Result<Traffic> {
        self.namespace.traffic().await
    }

    /// Pushes an image of the machine's platform, from inside the registry's own network, under `tag`.
    pub async fn push(&self, repository: &str, tag: &str, layers: &[Layer]) -> Result<Pushed> {
        let digests: Vec<String> = layers.iter().map(|layer| digest(&layer.0)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Entrypoint": ["/toolbox"], "Cmd": ["pause"] },
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        let config = config.to_string();
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = self.blob(repository, kind, config.as_bytes()).await?;
        let mut pushed = Vec::new();
        for layer in layers {
            pushed.push(self.blob(repository, "application/vnd.oci.image.layer.v1.tar", &layer.0).await?);
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": pushed });
        let manifest = manifest.to_string();
        let url = self.url(&format!("{repository}/manifests/{tag}"));
        self.curl(
            &["--request", "PUT", "--header", &format!("content-type: {kind}")],
            manifest.as_bytes(),
            &url,
        )
        .await?;
        let reference = format!("{}/{repository}:{tag}", self.host);
        Ok(Pushed { reference, digest: digest(manifest.as_bytes()) })
    }

    /// Stores a blob; answers its descriptor.
    async fn blob(&self, repository: &str, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        let uploads = self.url(&format!("{repository}/blobs/uploads/"));
        let begun = self.curl(&["--request", "POST", "--include"], b"", &uploads).await?;
        let location = begun
            .lines()
            .find_map(|line| line.strip_prefix("Location: ").or_else(|| line.strip_prefix("location: ")));
        let location = location.context("docker-registry does not say where to upload to")?.trim();
        self.curl(
            &["--request", "PUT", "--header", "content-type: application/octet-stream"],
            bytes,
            &format!("{location}&digest={digest}"),
        )
        .await?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
    }

    async fn curl(&self, options: &[&str], body: &[u8], url: &str) -> Result<String> {
        let file = self.folder.join("body");
        std::fs::write(&file, body)?;
        let mut command = self.namespace.command("curl");
        command.args(["--silent", "--show-error", "--fail"]).args(options);
        command.arg("--data-binary").arg(format!("@{}", file.display())).arg(url);
        let answer = output(command, PUSH_TIMEOUT).await?;
        ensure!(answer.success, "{url}: {}", answer.stderr);
        Ok(answer.stdout)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.daemon.kill();
    }
}

/// `sha256:<hex>`.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
