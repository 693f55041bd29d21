//! The tracker over UDP (BEP 15, 41).
//!
//! [`packet`], [`connection_id`] and [`responder`] are pure. Each worker is a thread with a socket of its own on the same port, among
//! which the kernel spreads the clients; nothing is allocated for a packet here, and nothing is stored for a client before its
//! connection id has proved where it is.

pub mod connection_id;
pub mod packet;
pub mod responder;
mod tally;
mod worker;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemon::{BindError, CancellationToken};
use tokio::task::JoinSet;

use self::connection_id::Key;
pub(crate) use self::tally::{Counters, Shared};
use self::worker::Worker;
use crate::limits::MAX_UDP_WORKERS;
use crate::tracker::State;

/// The sockets of a tracker over UDP, all on one port: one for each worker.
#[derive(Debug)]
pub struct Sockets(Vec<UdpSocket>);

impl Sockets {
    /// Opens the port `workers` times.
    ///
    /// # Errors
    /// When it is taken, or not to be had on this machine.
    pub fn bind(address: SocketAddr, workers: NonZeroU16) -> Result<Self, BindError> {
        let sockets = daemon::bind_udp(address, workers.get().min(MAX_UDP_WORKERS))?;
        sockets.iter().try_for_each(worker::configure).map_err(|source| BindError { address, source })?;
        Ok(Sockets(sockets))
    }

    /// Where they listen.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0[0].local_addr()
    }
}

/// Running workers; they end with this.
pub(crate) struct Workers {
    stop: Arc<AtomicBool>,
    threads: JoinSet<()>,
}

impl Workers {
    /// Starts one for each socket. Trackers with one token take one another's connection ids; without a token they are of this
    /// start alone.
    pub(crate) fn start(state: &Arc<State>, sockets: Sockets) -> Self {
        let key = state.config.token.as_ref().map_or_else(|| Key::new(rand::random()), Key::of_token);
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = JoinSet::new();
        for socket in sockets.0 {
            let (state, key, stop) = (Arc::clone(state), key.clone(), Arc::clone(&stop));
            threads.spawn_blocking(move || Worker::new(socket, state, key).run(&stop));
        }
        Workers { stop, threads }
    }

    /// Lets them work until `shutdown`.
    pub(crate) async fn run_until(mut self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.threads.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a UDP worker failed");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
