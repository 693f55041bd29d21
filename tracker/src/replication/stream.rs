//! Frames over a stream.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::SILENCE;
use super::frame::{Frame, FrameError};
use crate::metrics::Replication;

/// Bytes that are read at a time.
const READ: usize = 64 << 10;

/// Why a stream between siblings ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the sibling has closed the stream")]
    Closed,
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the sibling does not read what it is sent")]
    Stalled,
    #[error("the stream broke")]
    Broken(#[from] io::Error),
    #[error("what came is no frame")]
    Frame(#[from] FrameError),
    #[error("a frame came that is not for this side of a stream")]
    Unexpected,
}

/// The reading half.
pub(crate) struct Frames<R> {
    reader: R,
    come: BytesMut,
    /// When something came last. Kept here, since whoever waits for a frame waits for other things too, and begins anew after each.
    heard: Instant,
    metrics: Arc<Replication>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(reader: R, metrics: Arc<Replication>) -> Self {
        Frames { reader, come: BytesMut::new(), heard: Instant::now(), metrics }
    }

    /// The next frame. May be dropped and called again: nothing that has come is lost.
    pub async fn next(&mut self) -> Result<Frame, StreamError> {
        loop {
            if let Some(frame) = Frame::take(&mut self.come)? {
                return Ok(frame);
            }
            self.come.reserve(READ);
            let read = timeout_at(self.heard + SILENCE, self.reader.read_buf(&mut self.come)).await;
            let read = read.map_err(|_| StreamError::Silent)??;
            if read == 0 {
                return Err(StreamError::Closed);
            }
            self.heard = Instant::now();
            self.metrics.received.inc_by(read as u64);
        }
    }
}

/// The writing half.
pub(crate) struct Sink<W> {
    writer: W,
    metrics: Arc<Replication>,
}

impl<W: AsyncWrite + Unpin> Sink<W> {
    pub fn new(writer: W, metrics: Arc<Replication>) -> Self {
        Sink { writer, metrics }
    }

    pub async fn send(&mut self, frame: &Frame) -> Result<(), StreamError> {
        self.send_all(&[frame.encode()]).await
    }

    pub async fn send_all(&mut self, frames: &[Bytes]) -> Result<(), StreamError> {
        let writing = async {
            for frame in frames {
                self.writer.write_all(frame).await?;
                self.metrics.sent.inc_by(frame.len() as u64);
            }
            self.writer.flush().await
        };
        timeout(SILENCE, writing).await.map_err(|_| StreamError::Stalled)??;
        Ok(())
    }
}
