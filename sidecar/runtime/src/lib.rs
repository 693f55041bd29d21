//! The node's container runtime, from the sidecar's side: pulls, leases, pins and events over its socket, and the files in which it is told
//! where to pull from.
//!
//! Pulls, and what the kubelet sees of images, are CRI; leases, content, pins and events are containerd's own API and refused as
//! unimplemented elsewhere.

mod canary;
mod connection;
mod content;
mod cri;
pub mod discovery;
mod error;
mod events;
pub mod hosts;
mod leases;
mod messages;
mod pins;

pub use canary::Canary;
pub use connection::Runtime;
pub use content::{Content, content_folder, content_path};
pub use cri::{Image, ImageFileSystem, Status, Version};
pub use error::Error;
pub use events::ImageEvent;
