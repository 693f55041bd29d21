//! A way to a tracker from one address: a UDP socket with its connection id, or a TCP connection that is kept alive. One question at a time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::Protocol;
use super::drive::TRIES;
use super::message::{self, Announce, find};

/// How long a connection may take to be made, each time that it is tried.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than any answer to a question of ours.
const ANSWER: usize = 16 * 1024;

/// One.
#[derive(Debug)]
pub struct Lane {
    way: Way,
    buffer: Box<[u8; ANSWER]>,
    /// Bytes of the answer that are there.
    filled: usize,
}

#[derive(Debug)]
enum Way {
    Udp { socket: UdpSocket, connection: u64, transaction: u32 },
    Http(TcpStream),
}

impl Lane {
    /// Opens one from `source`, with a port that the system chooses.
    pub fn open(protocol: Protocol, server: SocketAddrV4, source: Ipv4Addr) -> Result<Self> {
        let way = match protocol {
            Protocol::Udp => udp(server, source)?,
            Protocol::Http => Way::Http(http(server, source)?),
        };
        Ok(Self { way, buffer: Box::new([0; ANSWER]), filled: 0 })
    }

    /// Asks to be announced.
    pub fn announce(&mut self, announce: &Announce) -> Result<()> {
        match &mut self.way {
            Way::Udp { socket, connection, transaction } => {
                *transaction += 1;
                socket.send(&announce.udp(*connection, *transaction))?;
            }
            Way::Http(stream) => stream.write_all(&announce.http()?)?,
        }
        Ok(())
    }

    /// Asks how many peers torrents have.
    pub fn scrape(&mut self, hashes: &[[u8; 20]]) -> Result<()> {
        match &mut self.way {
            Way::Udp { socket, connection, transaction } => {
                *transaction += 1;
                socket.send(&message::udp_scrape(hashes, *connection, *transaction))?;
            }
            Way::Http(stream) => stream.write_all(&message::http_scrape(hashes)?)?,
        }
        Ok(())
    }

    /// The answer, if it is there: a datagram, or the body of an HTTP response. Never waits.
    pub fn poll(&mut self) -> Result<Option<&[u8]>> {
        match &mut self.way {
            Way::Udp { socket, transaction, .. } => {
                let Some(length) = ready(socket.recv(&mut self.buffer[..]))? else { return Ok(None) };
                let answer = &self.buffer[..length];
                // One that was given up comes late.
                Ok((answer.get(4..8) == Some(&transaction.to_be_bytes()[..])).then_some(answer))
            }
            Way::Http(stream) => {
                let Some(length) = ready(stream.read(&mut self.buffer[self.filled..]))? else {
                    return Ok(None);
                };
                ensure!(length > 0, "the tracker closed a connection");
                self.filled += length;
                let Some(body) = body(&self.buffer[..self.filled])? else { return Ok(None) };
                self.filled = 0;
                Ok(Some(&self.buffer[body]))
            }
        }
    }
}

fn ready(result: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn udp(server: SocketAddrV4, source: Ipv4Addr) -> Result<Way> {
    let socket = UdpSocket::bind((source, 0)).with_context(|| format!("{source}"))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut answer = [0; 64];
    for transaction in 0..TRIES {
        socket.send(&message::udp_connect(transaction))?;
        let Some(length) = ready(socket.recv(&mut answer))? else { continue };
        if let Some(connection) = message::udp_connected(&answer[..length], transaction) {
            socket.set_nonblocking(true)?;
            return Ok(Way::Udp { socket, connection, transaction });
        }
    }
    bail!("{server} gives no connection id")
}

fn http(server: SocketAddrV4, source: Ipv4Addr) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0)).with_context(|| format!("{source}"))?;
    connect(&socket, &server).with_context(|| format!("{server}"))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Where the body of a whole response is; nothing if bytes are missing.
fn body(response: &[u8]) -> Result<Option<std::ops::Range<usize>>> {
    let Some(head) = find(response, b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&response[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("an answer without Content-Length")?.trim().parse()?;
    let start = head + 4;
    ensure!(start + length <= ANSWER, "an answer of {length} bytes");
    Ok((response.len() >= start + length).then_some(start..start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_there_when_all_of_it_is() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length:   3\r\n\r\nabc";
        assert_eq!(body(response).unwrap(), Some(response.len() - 3..response.len()));
        assert_eq!(body(&response[..response.len() - 1]).unwrap(), None);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
        assert!(body(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
