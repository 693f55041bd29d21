//! Accepting connections with limits, until told to stop.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::run::file_limit;
use crate::serve::ServeOptions;

/// Files that a daemon keeps for other things than connections.
const RESERVED_FILES: usize = 128;
/// Pause after a failed accept (out of files, for example), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs `connection` for each connection, as many at a time as `options` allow, until `shutdown`. Then no more are accepted, and
/// those that are left have [`ServeOptions::drain`] to end. They have to look at the token themselves, and the limits within a
/// connection are theirs to keep: this is for a server with a protocol loop of its own, [`crate::serve()`] for all others.
pub async fn accept<C, F>(
    listener: TcpListener,
    options: ServeOptions,
    shutdown: CancellationToken,
    connection: C,
) where
    C: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let limit = options.max_connections.min(file_limit().saturating_sub(RESERVED_FILES)).max(1);
    let slots = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    let sources = Arc::new(Sources::default());
    let mut tasks = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = next_connection(&listener, &slots, &shutdown) => next,
            Some(ended) = tasks.join_next() => {
                report(ended);
                continue;
            }
        };
        let Some((permit, stream, peer)) = next else { break };
        let Some(source) = sources.enter(peer.ip(), options.max_connections_per_source) else {
            tracing::debug!(%peer, "too many connections from this address");
            continue;
        };
        let connection = connection(stream, peer);
        tasks.spawn(async move {
            connection.await;
            drop((permit, source));
        });
    }
    drop(listener);
    drain(tasks, options.drain).await;
}

/// Lets connections end, and cuts those that do not.
async fn drain(mut tasks: JoinSet<()>, patience: Duration) {
    let ending = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(patience, ending).await.is_err() {
        tracing::warn!(connections = tasks.len(), "cutting connections that did not end in time");
        tasks.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection failed");
    }
}

/// The next connection and its slot; none once `shutdown` is cancelled.
async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let accepting = async {
        let permit = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Head and body are separate writes: with Nagle's algorithm the second waits 40 ms for the client's
                    // delayed ACK. It fails only on a connection that is gone already.
                    stream.set_nodelay(true).ok();
                    return Some((permit, stream, canonical(peer)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        next = accepting => next,
    }
}

/// An IPv4 client on a listener for both families shows as `::ffff:a.b.c.d`; everything behind wants `a.b.c.d`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address; dropping it takes it off the count.
struct Source {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Sources {
    fn enter(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<Source> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Source { sources: Arc::clone(self), address })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut counts = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
