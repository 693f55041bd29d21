//! A container runtime of its own, with a registry and a mirror that do as they are told: what containerd really does with each answer.
//!
//! No cluster: containerd runs in a network and a mount namespace in which there is nothing but loopback.

pub mod containerd;
pub mod image;
pub mod log;
pub mod registry;
pub mod shelf;
pub mod suite;

/// Where the scripted registry listens, which is also what the images' references begin with.
pub const UPSTREAM: u16 = 5000;
/// Where the mirror listens.
pub const MIRROR: u16 = 29_080;

/// Listens on a port of 127.0.0.1; the scenario before may just be leaving it.
async fn listen(port: u16) -> anyhow::Result<tokio::net::TcpListener> {
    crate::cluster::until(&format!("port {port}"), std::time::Duration::from_secs(10), || async {
        Ok(Some(tokio::net::TcpListener::bind(("127.0.0.1", port)).await?))
    })
    .await
}
