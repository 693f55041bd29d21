//! A thread that answers what comes to its socket, many packets with one call of the system.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sockopt};

use super::connection_id::Key;
use super::responder::{Clock, Responder};
use super::tally::Tally;
use crate::limits::{MAX_UDP_ANSWER, MAX_UDP_PACKET, UDP_BATCH, UDP_SOCKET_BYTES, UDP_STOP_CHECK};
use crate::tracker::State;

/// Prepares a socket for a worker.
pub(super) fn configure(socket: &UdpSocket) -> std::io::Result<()> {
    // The kernel gives as much of it as the system's settings allow.
    sockopt::set_socket_recv_buffer_size(socket, UDP_SOCKET_BYTES)?;
    sockopt::set_socket_send_buffer_size(socket, UDP_SOCKET_BYTES)?;
    socket.set_read_timeout(Some(UDP_STOP_CHECK))
}

/// See the module.
pub(super) struct Worker {
    socket: UdpSocket,
    state: Arc<State>,
    key: Key,
    /// Only chooses peers, so that a fast one will do.
    rng: SmallRng,
    tally: Tally,
    headers: MultiHeaders<SockaddrStorage>,
    packets: Box<[[u8; MAX_UDP_PACKET]; UDP_BATCH]>,
    answers: Vec<Answer>,
}

/// An answer, and who gets it.
struct Answer {
    to: SocketAddrAny,
    bytes: Vec<u8>,
}

impl Worker {
    pub(super) fn new(socket: UdpSocket, state: Arc<State>, key: Key) -> Self {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0)).as_any();
        let answer = || Answer { to: nobody.clone(), bytes: Vec::with_capacity(MAX_UDP_ANSWER) };
        Worker {
            socket,
            state,
            key,
            rng: SmallRng::from_os_rng(),
            tally: Tally::default(),
            headers: MultiHeaders::preallocate(UDP_BATCH, None),
            packets: vec![[0; MAX_UDP_PACKET]; UDP_BATCH]
                .try_into()
                .expect("as many as there are in a batch"),
            answers: std::iter::repeat_with(answer).take(UDP_BATCH).collect(),
        }
    }

    /// Answers until `stop`.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.receive() {
                Ok(answers) => {
                    self.send(answers);
                    self.state.metrics.udp.take(&mut self.tally);
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot receive over UDP");
                    std::thread::sleep(UDP_STOP_CHECK);
                }
            }
        }
    }

    /// Waits for packets, and answers how many of them have an answer, which stands at the front of `answers`.
    fn receive(&mut self) -> Result<usize, Errno> {
        let mut buffers = self.packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
        let descriptor = self.socket.as_raw_fd();
        let received = recvmmsg(descriptor, &mut self.headers, &mut buffers, MsgFlags::MSG_WAITFORONE, None)?;
        let responder = Responder { key: &self.key, directory: &self.state.directory };
        let clock = Clock { unix: unix(), now: self.state.now() };
        let mut answered = 0;
        for message in received {
            let Some(source) = message.address.as_ref().and_then(address) else { continue };
            let packet = message.iovs().next().unwrap_or_default();
            let answer = &mut self.answers[answered];
            self.tally.add(responder.answer(packet, source, clock, &mut self.rng, &mut answer.bytes));
            if !answer.bytes.is_empty() {
                answer.to = source.as_any();
                answered += 1;
            }
        }
        Ok(answered)
    }

    /// Sends the first answers. What the kernel does not take at once is lost, as anything may be over UDP.
    fn send(&mut self, answers: usize) {
        let answers = &self.answers[..answers];
        let mut sent = 0;
        let mut controls: [_; UDP_BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let parts: [_; UDP_BATCH] = std::array::from_fn(|nth| {
            [IoSlice::new(answers.get(nth).map(|answer| &*answer.bytes).unwrap_or_default())]
        });
        let messages = answers.iter().zip(&parts).zip(&mut controls);
        let mut messages: Vec<MMsgHdr<'_>> = messages
            .map(|((answer, part), control)| MMsgHdr::new_with_addr(&answer.to, part, control))
            .collect();
        while sent < messages.len() {
            match sendmmsg(&self.socket, &mut messages[sent..], SendFlags::DONTWAIT) {
                Ok(count) => sent += count,
                // It is the first of them that cannot be sent; the others may.
                Err(error) => {
                    tracing::trace!(%error, to = ?answers[sent].to, "an answer is lost");
                    self.tally.unsent += 1;
                    sent += 1;
                }
            }
        }
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn address(raw: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || raw.as_sockaddr_in().map(|&v4| SocketAddrV4::from(v4).into());
    let v6 = || raw.as_sockaddr_in6().map(|&v6| SocketAddrV6::from(v6).into());
    v4().or_else(v6)
}
