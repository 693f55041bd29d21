//! What a sidecar is told at its start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::clients::TokenSource;
use crate::images::ImagesConfig;

/// The port of peers.
pub const PEER_PORT: u16 = 6881;
/// The port of health, readiness and metrics.
pub const HEALTH_PORT: u16 = 6882;

/// A sidecar. Nothing of it is global: several can live in one process.
#[derive(Clone)]
pub struct SidecarConfig {
    /// The API server.
    pub client: kube::Client,
    /// The node it runs on.
    pub node_name: String,
    /// Its class.
    pub class: String,
    /// The data root, as this process sees it.
    pub root: PathBuf,
    /// The data root as the class calls it, if that is another path than [`SidecarConfig::root`].
    pub class_root: Option<String>,
    /// What it shows to the operator.
    pub token: TokenSource,
    /// Where peers connect to.
    pub listen_peer: Vec<SocketAddr>,
    /// Where health, readiness and metrics are served; nowhere if empty.
    pub listen_health: Vec<SocketAddr>,
    /// Payload bytes per second to peers.
    pub upload_limit: Option<u64>,
    /// Payload bytes per second from peers.
    pub download_limit: Option<u64>,
    /// Addresses that are never an origin, whatever the class says: those of the API server.
    pub denied_origins: Vec<IpAddr>,
    /// Images, if this sidecar has to do with them.
    pub images: Option<ImagesConfig>,
}

impl SidecarConfig {
    /// With the usual ports on all addresses, health on loopback, and no limits.
    pub fn new(
        client: kube::Client,
        node_name: &str,
        class: &str,
        root: PathBuf,
        token: TokenSource,
    ) -> Self {
        Self {
            client,
            node_name: node_name.to_owned(),
            class: class.to_owned(),
            root,
            class_root: None,
            token,
            listen_peer: vec![SocketAddr::from(([0, 0, 0, 0], PEER_PORT))],
            listen_health: vec![SocketAddr::from(([127, 0, 0, 1], HEALTH_PORT))],
            upload_limit: None,
            download_limit: None,
            denied_origins: Vec::new(),
            images: None,
        }
    }

    /// What the class's `spec.root` has to be.
    pub(crate) fn root_of_class(&self) -> String {
        self.class_root.clone().unwrap_or_else(|| self.root.display().to_string())
    }
}
