//! Closing a connection so that the other side sees its end, and never a reset.
//!
//! Linux answers `close` with a reset when the socket has unread bytes, and again for bytes that come afterwards. containerd resumes a
//! blob that ends early and fails a pull that is reset. So the sending side is closed first, and what still comes is read and dropped
//! for a moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How long the other side has to close.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read of it at most, in bytes.
const MAX_DROPPED: u64 = 1 << 20;

/// A connection that lingers when it is dropped.
pub(crate) struct Lingering {
    /// Taken on drop.
    stream: Option<TcpStream>,
    /// Connections that linger at a time; others are closed at once.
    places: Arc<Semaphore>,
}

impl Lingering {
    pub(crate) fn new(stream: TcpStream, places: Arc<Semaphore>) -> Self {
        Self { stream: Some(stream), places }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("the stream is taken only on drop"))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else { return };
        // Fails when the other side is gone already.
        rustix::net::shutdown(&stream, rustix::net::Shutdown::Write).ok();
        let (Ok(place), Ok(runtime)) =
            (Arc::clone(&self.places).try_acquire_owned(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let (mut rest, mut nowhere) = ((&mut stream).take(MAX_DROPPED), tokio::io::sink());
            // However it ends, the connection is done with.
            tokio::time::timeout(PATIENCE, tokio::io::copy(&mut rest, &mut nowhere)).await.ok();
            drop(place);
        });
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
