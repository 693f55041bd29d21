//! The flags, each also an environment variable.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use sidecar::{HEALTH_PORT, ImagesConfig, PEER_PORT, SidecarConfig, TokenSource};
use tokio_util::sync::CancellationToken;

/// Samara's daemon on each node: reads origins when elected, shares with its peers, publishes, seeds, reports.
#[derive(Parser)]
#[command(name = "samara-sidecar", version)]
pub struct Args {
    /// The node it runs on
    #[arg(long, env = "NODE_NAME")]
    node_name: String,

    /// Its DistributionClass
    #[arg(long, env = "SAMARA_CLASS", default_value = crds::DEFAULT_CLASS)]
    class: String,

    /// The data root: a folder that belongs to root and is nobody else's
    #[arg(long, env = "SAMARA_ROOT")]
    root: PathBuf,

    /// The data root as the class calls it, if it is mounted under another path here
    #[arg(long, env = "SAMARA_CLASS_ROOT", value_name = "PATH")]
    class_root: Option<String>,

    /// The ServiceAccount token with the audience samara.dev; read anew each time
    #[arg(long, env = "SAMARA_TOKEN_FILE", default_value = "/var/run/secrets/samara.dev/token")]
    token_file: PathBuf,

    /// Where peers connect to; may be given several times
    #[arg(long, env = "SAMARA_LISTEN_PEER", value_delimiter = ',', default_values_t = [
        SocketAddr::from(([0, 0, 0, 0], PEER_PORT)), SocketAddr::from(([0_u16; 8], PEER_PORT)),
    ])]
    listen_peer: Vec<SocketAddr>,

    /// Where /healthz, /readyz and /metrics are served; may be given several times
    #[arg(long, env = "SAMARA_LISTEN_HEALTH", value_delimiter = ',', default_values_t = [
        SocketAddr::from(([127, 0, 0, 1], HEALTH_PORT)),
    ])]
    listen_health: Vec<SocketAddr>,

    /// Payload bytes per second to all peers together
    #[arg(long, env = "SAMARA_UPLOAD_LIMIT", value_name = "BYTES")]
    upload_limit: Option<u64>,

    /// Payload bytes per second from all peers together
    #[arg(long, env = "SAMARA_DOWNLOAD_LIMIT", value_name = "BYTES")]
    download_limit: Option<u64>,

    /// Hosts that are never an origin, whatever the class says: the API server
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_delimiter = ',', value_name = "HOST")]
    deny_origin: Vec<String>,

    /// Handle images: serve them to the container runtime on this port of 127.0.0.1, and make it pull them
    #[arg(long, env = "SAMARA_MIRROR_PORT", value_name = "PORT")]
    mirror_port: Option<u16>,

    /// Where the host's folders are mounted: its /etc/containerd as DIR/etc/containerd, and so on
    #[arg(long, env = "SAMARA_HOST", value_name = "DIR", default_value = "/host", requires = "mirror_port")]
    host: PathBuf,

    /// Which of the container runtime's settings are changed: its hosts files, or none since somebody else points it at the mirror
    #[arg(long, env = "SAMARA_CONFIGURE_RUNTIME", value_enum, default_value_t, requires = "mirror_port")]
    configure_runtime: Configure,

    /// Where layers of images are read that the container runtime has: in its content store, if that is mounted below the host's folders, or
    /// always below the data root
    #[arg(long, env = "SAMARA_CONTENT_STORE", value_enum, default_value_t, requires = "mirror_port")]
    content_store: Layers,

    #[command(flatten)]
    pub logs: daemon::LogArgs,
}

/// What is changed of the runtime's settings.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Configure {
    #[default]
    HostsOnly,
    None,
}

/// Where layers are read that the runtime has.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Layers {
    #[default]
    IfMounted,
    Never,
}

impl Args {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            node_name,
            class,
            root,
            class_root,
            token_file,
            listen_peer,
            listen_health,
            upload_limit,
            download_limit,
            deny_origin,
            mirror_port,
            host,
            configure_runtime,
            content_store,
            logs: _,
        } = self;
        let client = kube::Client::try_default()
            .await
            .context("cannot make a client for the API server: run it in a pod, or set KUBECONFIG")?;
        let config = SidecarConfig {
            client,
            node_name,
            class,
            root,
            class_root,
            token: TokenSource::File(token_file),
            listen_peer,
            listen_health,
            upload_limit,
            download_limit,
            denied_origins: addresses_of(&deny_origin).await,
            images: mirror_port.map(|port| ImagesConfig {
                mirror: SocketAddr::from(([127, 0, 0, 1], port)),
                host,
                hosts_files: configure_runtime == Configure::HostsOnly,
                spare: sidecar::images::SPARE,
                content_store: content_store == Layers::IfMounted,
            }),
        };
        Ok(sidecar::run(config, shutdown).await?)
    }
}

/// Some platforms name the API server instead of giving its address.
async fn addresses_of(hosts: &[String]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for host in hosts {
        if let Ok(address) = host.parse() {
            addresses.push(address);
            continue;
        }
        match tokio::net::lookup_host((host.as_str(), 443)).await {
            Ok(found) => addresses.extend(found.map(|address| address.ip())),
            Err(error) => {
                tracing::warn!(host, %error, "it has no address now, and is not denied as an origin");
            }
        }
    }
    addresses
}
