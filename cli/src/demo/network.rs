//! Loopback addresses: every demo has a /16 of 127.0.0.0/8 to itself, so that several can run at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

/// The second byte of the first network that is tried, and of the last one.
const NETWORKS: std::ops::RangeInclusive<u8> = 77..=127;
/// The origin's port. Having it is having the network.
const ORIGIN_PORT: u16 = 8080;
/// The most nodes that a demo can have.
pub const MAX_NODES: u16 = 250;

/// Addresses of one demo.
#[derive(Clone, Copy, Debug)]
pub struct Network(u8);

impl Network {
    /// Takes the first free network. It is taken for as long as the listener, which is the origin's, lives.
    pub async fn claim() -> Result<(Self, TcpListener)> {
        let mut refused = None;
        for number in NETWORKS {
            let network = Self(number);
            match TcpListener::bind((network.origin(), ORIGIN_PORT)).await {
                Ok(listener) => return Ok((network, listener)),
                Err(error) => refused = Some((network.origin(), error)),
            }
        }
        let (address, error) = refused.context("no network to try")?;
        Err(error).with_context(|| format!("cannot listen on {address}:{ORIGIN_PORT}; are 50 demos running?"))
    }

    fn origin(self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, 0, 1)
    }

    /// Where the operator's API listens.
    pub fn operator_api(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, self.0, 0, 2), 8443))
    }

    /// The address of a node and its sidecar, counted from 1.
    pub fn node(self, number: u16) -> IpAddr {
        IpAddr::from([127, self.0, 1, number.min(MAX_NODES) as u8])
    }

    /// Where Services get their addresses from: the network and its prefix length.
    pub fn services(self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::new(127, self.0, 128, 0), 17)
    }
}
