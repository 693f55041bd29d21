//! Opening a port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
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
    either_family(address, try_bind)
}

/// Opens a port for UDP as [`bind`] does for TCP, `count` times: the kernel gives all packets of one source to the same of these
/// sockets. It is an error if others have the port already, even if they would share it.
pub fn bind_udp(address: SocketAddr, count: u16) -> Result<Vec<UdpSocket>, BindError> {
    let first = either_family(address, |address| {
        let socket = udp_socket(address)?;
        rustix::net::bind(&socket, &address)?;
        // Only now, since two that share a port would not hear of one another.
        set_socket_reuseport(&socket, true)?;
        Ok(socket)
    })?;
    let open = || {
        let address = first.local_addr()?;
        let socket = udp_socket(address)?;
        set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        Ok(socket)
    };
    let others: io::Result<Vec<UdpSocket>> = (1..count).map(|_| open()).collect();
    let others = others.map_err(|source| BindError { address, source })?;
    Ok(std::iter::once(first).chain(others).collect())
}

fn either_family<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> Result<T, BindError> {
    let bound = open(address).or_else(|error| {
        if address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) || error.kind() == io::ErrorKind::AddrInUse {
            return Err(error);
        }
        tracing::info!(%error, "no IPv6 here, listening on IPv4");
        open((Ipv4Addr::UNSPECIFIED, address.port()).into())
    });
    bound.map_err(|source| BindError { address, source })
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if let SocketAddr::V6(v6) = address {
        set_ipv6_v6only(&socket, !v6.ip().is_unspecified())?;
    }
    Ok(socket.into())
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

    #[test]
    fn a_udp_port_that_is_taken_is_an_error_even_though_it_is_shared() {
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = first[0].local_addr().unwrap();
        assert!(first.iter().all(|socket| socket.local_addr().unwrap() == address));
        let error = bind_udp(address, 2).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error:#}");
    }

    #[test]
    fn all_sockets_of_a_udp_port_get_some_of_its_sources() {
        let sockets = bind_udp("[::]:0".parse().unwrap(), 3).unwrap();
        let port = sockets[0].local_addr().unwrap().port();
        for _ in 0..100 {
            let source = UdpSocket::bind("127.0.0.1:0").unwrap();
            source.send_to(b"x", ("127.0.0.1", port)).unwrap();
        }
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
            assert!(socket.recv_from(&mut [0; 8]).is_ok());
        }
    }
}
