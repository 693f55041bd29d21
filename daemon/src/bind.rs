//! Opening a port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Opens a port. `[::]` stands for both families whatever the system's default is, and for IPv4 alone where there is no IPv6.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = try_bind(address).or_else(|error| {
        if address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) || error.kind() == io::ErrorKind::AddrInUse {
            return Err(error);
        }
        tracing::info!(%error, "no IPv6 here, listening on IPv4");
        try_bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
    });
    bound.map_err(|source| BindError { address, source })
}

fn try_bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(v6) => {
            let socket = TcpSocket::new_v6()?;
            set_ipv6_v6only(&socket, !v6.ip().is_unspecified())?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_wildcard_takes_both_families() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error:#}");
    }
}
