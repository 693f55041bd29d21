//! A connection of the tracker: announces and scrapes are read, answered and written here, with one read and one write for all that
//! has come at once, and no allocation but for what is left over. What else comes is handed over to hyper and the router, for the
//! rest of the connection's life.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use daemon::{CancellationToken, ServeOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::batch::{Next, Workbench};
use super::router;
use crate::limits::READ_BYTES;
use crate::request::may_end;
use crate::tracker::Tracker;

thread_local! {
    static WORKBENCH: RefCell<Workbench> = RefCell::new(Workbench::new());
}

/// Serves a tracker on `listener` until `shutdown`, and lets running requests end.
pub(crate) async fn serve(tracker: &Tracker, listener: TcpListener, shutdown: CancellationToken) {
    let options = tracker.0.config.serve;
    let (tracker, router, stop) = (tracker.clone(), router(tracker), shutdown.clone());
    daemon::accept(listener, options, shutdown, move |stream, peer| {
        serve_one(tracker.clone(), router.clone(), stream, peer, options, stop.clone())
    })
    .await;
}

async fn serve_one(
    tracker: Tracker,
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let mut connection = Connection {
        tracker,
        peer,
        options,
        stream,
        deadline: Box::pin(sleep(options.header_timeout)),
        shutdown: Box::pin(shutdown.clone().cancelled_owned()),
        stopping: false,
        received: Vec::new(),
        unsent: Vec::new(),
        next: Next::Read,
    };
    let ended = poll_fn(|context| WORKBENCH.with_borrow_mut(|bench| connection.poll(context, bench))).await;
    match ended {
        Ok(End::Closed) => {}
        Ok(End::HandOver) => {
            let Connection { stream, received, .. } = connection;
            let (read, write) = stream.into_split();
            let stream = tokio::io::join(Cursor::new(received).chain(read), write);
            // In a box, so that the many connections that never come here are small.
            Box::pin(daemon::serve_connection(stream, peer, router, options, shutdown)).await;
        }
        Err(error) => tracing::debug!(%peer, %error, "connection ended"),
    }
}

/// How the loop of a connection ends.
enum End {
    Closed,
    HandOver,
}

struct Connection {
    tracker: Tracker,
    peer: SocketAddr,
    options: ServeOptions,
    stream: TcpStream,
    /// By then a whole head must have come, or a part of an answer have been taken.
    deadline: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether the tracker shuts down, so that the next request is the last.
    stopping: bool,
    /// What came and is not answered yet: the beginning of a request, or requests whose turn has not come.
    received: Vec<u8>,
    /// What the client has not taken yet.
    unsent: Vec<u8>,
    next: Next,
}

impl Connection {
    fn poll(&mut self, context: &mut Context<'_>, bench: &mut Workbench) -> Poll<io::Result<End>> {
        loop {
            ready!(self.poll_send_rest(context))?;
            let length = match self.next {
                Next::Answer => self.lay_out(bench),
                Next::Read => match ready!(self.poll_receive(context, bench))? {
                    Some(length) => length,
                    None => return Poll::Ready(Ok(End::Closed)),
                },
                Next::Close => {
                    return Pin::new(&mut self.stream).poll_shutdown(context).map_ok(|()| End::Closed);
                }
                Next::HandOver => return Poll::Ready(Ok(End::HandOver)),
            };
            self.answer(bench, length);
            self.send(context, bench)?;
        }
    }

    /// Puts what was left over on the bench, and says how long it is.
    fn lay_out(&mut self, bench: &mut Workbench) -> usize {
        let held = self.received.len();
        if bench.input.len() < held + READ_BYTES {
            bench.input.resize(held + READ_BYTES, 0);
        }
        bench.input[..held].copy_from_slice(&self.received);
        held
    }

    /// Reads behind what was left over, and says how much lies on the bench then; none at the end of the connection.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        bench: &mut Workbench,
    ) -> Poll<io::Result<Option<usize>>> {
        let held = self.lay_out(bench);
        let room = READ_BYTES.min(self.options.max_header_bytes.saturating_sub(held));
        let mut buffer = ReadBuf::new(&mut bench.input[held..held + room]);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Some(held + buffer.filled().len()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_idle(context).map(Ok),
        }
    }

    /// Nothing has come: that may be the end.
    fn poll_idle<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        if !self.stopping && self.shutdown.as_mut().poll(context).is_ready() {
            self.stopping = true;
        }
        // A request that has begun to arrive is still answered.
        if self.stopping && self.received.is_empty() {
            return Poll::Ready(None);
        }
        self.deadline.as_mut().poll(context).map(|()| None)
    }

    /// Answers what lies on the bench, and keeps the rest.
    fn answer(&mut self, bench: &mut Workbench, length: usize) {
        let (source, now) = (self.peer.ip(), Instant::now());
        let part = self.next == Next::Read && !self.received.is_empty();
        let (done, next) = if part && !may_end(&bench.input[..length], self.received.len()) {
            bench.output.clear();
            (0, Next::Read)
        } else {
            bench.answer(&self.tracker.0, source, length, self.stopping, now.into_std())
        };
        self.next = next;
        if done > 0 {
            self.deadline.as_mut().reset(now + self.options.header_timeout);
        }
        let rest = &bench.input[done..length];
        if next == Next::Read && rest.len() >= self.options.max_header_bytes {
            // Hyper says what is too long about it.
            self.next = Next::HandOver;
        }
        if rest.is_empty() {
            self.received = Vec::new();
        } else {
            self.received.clear();
            self.received.extend_from_slice(rest);
        }
    }

    /// Writes what lies on the bench, and keeps what the client does not take now.
    fn send(&mut self, context: &mut Context<'_>, bench: &Workbench) -> io::Result<()> {
        if bench.output.is_empty() {
            return Ok(());
        }
        let taken = match Pin::new(&mut self.stream).poll_write(context, &bench.output) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        if taken < bench.output.len() {
            self.unsent.extend_from_slice(&bench.output[taken..]);
            self.expect_within(self.options.stall_timeout);
        }
        Ok(())
    }

    /// Writes what the client has not taken before.
    fn poll_send_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.unsent) {
                Poll::Ready(taken) => drop(self.unsent.drain(..taken?)),
                Poll::Pending => {
                    ready!(self.deadline.as_mut().poll(context));
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the other side does not read",
                    )));
                }
            }
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
                self.expect_within(self.options.header_timeout);
            } else {
                self.expect_within(self.options.stall_timeout);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn expect_within(&mut self, patience: Duration) {
        self.deadline.as_mut().reset(Instant::now() + patience);
    }
}
