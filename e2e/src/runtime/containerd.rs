//! A containerd with folders of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use runtime::Runtime;

use crate::cluster::process::{Daemon, until};

/// containerd answers within a second; beside a compiler it may take several.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Which containerd.
#[derive(Debug, Clone)]
pub struct Version {
    /// As it is called in the report.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Of its configuration: 2, or 3 since containerd 2.0.
    pub config: u8,
    /// Whether it is told to pull without its transfer service; `None`: it knows no other way, and cannot be told (before 2.1).
    pub local_pull: Option<bool>,
}

/// How it is configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it looks for hosts files; `{}` stands for the scenario's folder.
    pub config_path: &'static str,
    /// Whether layers go once they are unpacked. Newer versions pull without their transfer service then.
    pub discard_unpacked_layers: bool,
    /// Bytes of the ranges in which a layer is fetched at a time, of the transfer service; 0: as a whole.
    pub parallel_fetch: u32,
    /// The only version that can be configured so; none: all.
    pub only: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { config_path: "{}/certs.d", discard_unpacked_layers: false, parallel_fetch: 0, only: None }
    }
}

/// A running one, killed when it is dropped.
#[derive(Debug)]
pub struct Containerd {
    daemon: Daemon,
    /// The connection to it.
    pub runtime: Runtime,
    /// Where it looks for hosts files.
    pub config_path: String,
    /// Its main configuration.
    pub config: PathBuf,
}

impl Containerd {
    /// Starts it with everything below `folder`, and waits until it answers.
    pub async fn start(version: &Version, folder: &Path, settings: &Settings) -> Result<Self> {
        let folder_text = folder.to_str().context("the folder's path is not UTF-8")?;
        let config_path = settings.config_path.replace("{}", folder_text);
        let config = folder.join("config.toml");
        fs::write(&config, configuration(version, folder_text, &config_path, settings))?;
        let mut command = Command::new(&version.program);
        command.arg("--config").arg(&config);
        let log = folder.join("containerd.log");
        let mut daemon = Daemon::spawn(command, &log)?;
        let socket = folder.join("containerd.sock");
        let answering = until("containerd", START_TIMEOUT, || {
            let state = daemon.check();
            let socket = socket.clone();
            async move {
                state?;
                let Ok(runtime) = Runtime::connect(&socket).await else { return Ok(None) };
                Ok(runtime.version().await.ok().map(|_| runtime))
            }
        });
        let answering = answering.await;
        let runtime = answering.with_context(|| fs::read_to_string(&log).unwrap_or_default());
        match runtime {
            Ok(runtime) => Ok(Self { daemon, runtime, config_path, config }),
            Err(error) => {
                daemon.kill();
                Err(error)
            }
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.daemon.kill();
    }
}

fn configuration(version: &Version, folder: &str, config_path: &str, settings: &Settings) -> String {
    let (discard, parallel) = (settings.discard_unpacked_layers, settings.parallel_fetch);
    let told =
        version.local_pull.map_or_else(String::new, |local| format!("  use_local_image_pull = {local}\n"));
    let fetch = format!(
        "[plugins.\"io.containerd.transfer.v1.local\"]\n  concurrent_layer_fetch_buffer = {parallel}\n"
    );
    let transfer = version.local_pull.map_or_else(String::new, |_| fetch);
    let plugins = if version.config == 2 {
        format!(
            r#"[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{folder}/none"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = {discard}
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{config_path}"
"#
        )
    } else {
        format!(
            r#"[plugins."io.containerd.cri.v1.images"]
{told}  discard_unpacked_layers = {discard}
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{config_path}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
{transfer}"#
        )
    };
    format!(
        r#"version = {}
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
{plugins}"#,
        version.config
    )
}
