//! Debian's docker-registry in a network of its own, with images made here.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use xtask::oci;
use xtask::tools::Tools;

use crate::cluster::process::{Daemon, output, run, until};
use crate::cluster::{Namespace, Traffic};
use crate::payload;

/// Where it listens.
const PORT: u16 = 5000;
/// To push one blob.
const PUSH_TIMEOUT: Duration = Duration::from_mins(2);

/// Bytes of the image of a scenario: as many MiB as `SAMARA_E2E_MIB` says, else `usual`.
pub fn image_size(usual: usize) -> Result<usize> {
    let Ok(text) = std::env::var("SAMARA_E2E_MIB") else { return Ok(usual) };
    let mib = text.parse().ok().filter(|mib| (12..=4096).contains(mib));
    mib.map(|mib: usize| mib << 20)
        .with_context(|| format!("SAMARA_E2E_MIB={text}: a number from 12 to 4096 is wanted"))
}

/// A layer: a tar.
#[derive(Debug, Clone)]
pub struct Layer(pub Vec<u8>);

impl Layer {
    /// The program that the images made here run.
    pub fn program() -> Result<Self> {
        Self::other_program(0, 0)
    }

    /// The same program with bytes of stream `seed` behind it, `size` in all: a layer that no node has.
    pub fn other_program(seed: u64, size: usize) -> Result<Self> {
        let mut content = std::fs::read(Tools::locate().path("toolbox"))?;
        content.extend(payload::bytes(seed, size.saturating_sub(content.len())));
        Self::of("toolbox".into(), content)
    }

    /// `size` bytes that do not compress, in a file.
    pub fn noise(seed: u64, size: usize) -> Result<Self> {
        Self::of(format!("data-{seed}"), payload::bytes(seed, size))
    }

    fn of(path: String, content: Vec<u8>) -> Result<Self> {
        Ok(Self(oci::tar(&oci::Layer { path, content })?))
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }

    /// `sha256:<hex>`.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

/// An image that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// `address:port/repository:tag`.
    pub reference: String,
    /// Of its manifest.
    pub digest: String,
}

/// What a registry asks to be shown.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// docker-registry's section `auth`; null: nothing.
    pub section: Value,
    /// The `Authorization` that lets push.
    pub push: Option<String>,
}

/// A line of its access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The address that asked.
    pub to: String,
    /// GET, HEAD...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Of the answer.
    pub status: u16,
    /// Of the answer's body; a client that went away in the middle may have got fewer.
    pub bytes: u64,
}

/// Bytes of a blob that were given in one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The address that asked.
    pub to: String,
    /// How many; a client that went away in the middle may have got fewer.
    pub bytes: u64,
}

/// A registry, which ends with this.
#[derive(Debug)]
pub struct Registry {
    namespace: Namespace,
    /// `address:port`, as it stands in references.
    pub host: String,
    folder: PathBuf,
    push: Option<String>,
    daemon: Daemon,
}

impl Registry {
    /// Starts it; what is pushed lies below `dir`.
    pub async fn start(namespace: Namespace, address: Ipv4Addr, dir: &Path, auth: Auth) -> Result<Self> {
        let folder = dir.join(&namespace.name);
        std::fs::create_dir_all(&folder)?;
        let config = json!({
            "version": "0.1", "log": { "level": "info" }, "http": { "addr": format!("{address}:{PORT}") },
            "storage": { "filesystem": { "rootdirectory": folder.join("data") } }, "auth": auth.section,
        });
        let path = folder.join("config.yml");
        std::fs::write(&path, config.to_string())?;
        let mut command = namespace.command("docker-registry");
        command.arg("serve").arg(&path);
        let daemon = Daemon::spawn(command, &log(&folder))?;
        let host = format!("{address}:{PORT}");
        let registry = Self { namespace, host, folder, push: auth.push, daemon };
        until("docker-registry", Duration::from_secs(20), || async {
            let mut get = registry.namespace.command("curl");
            get.args(["--silent", "--fail", &registry.url("")]).args(registry.shown());
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

    /// Pulls its cable out (`true`) or plugs it in again: nobody is refused, and nobody is answered.
    pub async fn cut(&self, cut: bool) -> Result<()> {
        self.namespace.cut(cut).await
    }

    /// The addresses that it is sending to just now: whose answers wait for its limited link.
    pub async fn readers(&self) -> Result<Vec<Ipv4Addr>> {
        let mut ss = self.namespace.command("ss");
        ss.args(["-Htn", "state", "established", &format!("( sport = :{PORT} )")]);
        Ok(run(ss).await?.lines().filter_map(reader).collect())
    }

    /// What it has answered, by its access log: an answer is there when it has ended.
    pub fn answered(&self) -> Result<Vec<Answered>> {
        Ok(std::fs::read_to_string(log(&self.folder))?.lines().filter_map(answered).collect())
    }

    /// What it has given of a blob.
    pub fn given(&self, digest: &str) -> Result<Vec<Given>> {
        Ok(self.answered()?.into_iter().filter_map(|answer| given(answer, digest)).collect())
    }

    /// What opens it, for curl.
    fn shown(&self) -> Vec<String> {
        let header = self.push.iter().map(|push| format!("authorization: {push}"));
        header.flat_map(|header| ["--header".to_owned(), header]).collect()
    }

    /// Pushes an image of the machine's platform, from inside the registry's own network, under `tag`.
    pub async fn push(&self, repository: &str, tag: &str, layers: &[Layer]) -> Result<Pushed> {
        let digests: Vec<String> = layers.iter().map(Layer::digest).collect();
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
        command.args(["--silent", "--show-error", "--fail"]).args(options).args(self.shown());
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

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// `sha256:<hex>`.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A line of `ss`: bytes received and not read, bytes sent and not acknowledged, both addresses. Where there are some to be sent, the other one.
fn reader(line: &str) -> Option<Ipv4Addr> {
    let mut words = line.split_whitespace();
    let (queued, to) = (words.nth(1)?.parse::<u64>().ok()?, words.nth(1)?);
    let (address, _) = to.rsplit_once(':')?;
    (queued > 0).then(|| address.trim_matches(['[', ']']).trim_start_matches("::ffff:").parse().ok())?
}

/// A line of Apache's combined log.
fn answered(line: &str) -> Option<Answered> {
    let (to, rest) = line.split_once(" - ")?;
    let (_, rest) = rest.split_once("] \"")?;
    let (method, rest) = rest.split_once(' ')?;
    let (path, rest) = rest.split_once(" HTTP/1.1\" ")?;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let mut numbers = rest.split(' ');
    let (status, bytes) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let (to, method, path) = (to.to_owned(), method.to_owned(), path.to_owned());
    Some(Answered { to, method, path, status, bytes })
}

/// If it is of a GET of this blob.
fn given(answer: Answered, digest: &str) -> Option<Given> {
    let is_it = answer.method == "GET" && answer.path.rsplit_once("/blobs/")?.1 == digest;
    is_it.then_some(Given { to: answer.to, bytes: answer.bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_being_sent_to_is_read_from_what_ss_prints() {
        let node = Some("10.88.1.2".parse().unwrap());
        assert_eq!(reader("0      65160  10.88.0.101:5000   10.88.1.2:41234"), node);
        assert_eq!(reader("0 1 [::ffff:10.88.0.101]:5000 [::ffff:10.88.1.2]:41234"), node);
        assert_eq!(reader("0      0      10.88.0.101:5000   10.88.1.2:41234"), None, "it has all");
        assert_eq!(reader(""), None);
    }

    #[test]
    fn what_was_given_of_a_blob_is_read_from_the_access_log() {
        let of = |request: &str, rest: &str| {
            let line = format!(
                "10.88.1.2 - - [29/Nov/2026:18:23:30 +0000] \"{request} HTTP/1.1\" {rest} \"\" \"curl\""
            );
            given(answered(&line)?, "sha256:ab")
        };
        let bytes = |bytes| Some(Given { to: "10.88.1.2".into(), bytes });
        assert_eq!(of("GET /v2/team/app/blobs/sha256:ab", "200 3000000"), bytes(3_000_000));
        assert_eq!(of("GET /v2/team/app/blobs/sha256:ab?ns=other.example", "206 100"), bytes(100));
        assert_eq!(of("GET /v2/team/app/blobs/sha256:abc", "200 7"), None);
        assert_eq!(of("HEAD /v2/team/app/blobs/sha256:ab", "200 0"), None);
        assert_eq!(of("GET /v2/team/app/manifests/sha256:ab", "200 7"), None);
        let other =
            "time=\"2026-11-29T18:23:29Z\" level=info msg=\"response completed\" http.request.method=GET";
        assert_eq!(answered(other), None);
    }
}
