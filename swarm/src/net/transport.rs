//! What a connection runs over, and the shortest way that bytes of a file have through it.

use std::io;
use std::time::{Duration, Instant};

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::connection::Closed;
use super::storage::Extent;
use crate::conversation::End;
use crate::wire::{Block, piece_header};

/// A stream in both directions.
pub trait Transport {
    /// What comes in.
    type Incoming: AsyncRead + Unpin;
    /// What goes out.
    type Outgoing: Outgoing;

    /// Both, apart.
    fn halves(self) -> (Self::Incoming, Self::Outgoing);
}

/// The way out.
pub trait Outgoing: AsyncWrite + Unpin {
    /// The socket, if what is written goes to the peer as it is: then the kernel can send from a file. Not where it is encrypted on the way.
    fn socket(&self) -> Option<&TcpStream>;
}

impl Transport for TcpStream {
    type Incoming = OwnedReadHalf;
    type Outgoing = OwnedWriteHalf;

    fn halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}

impl Outgoing for OwnedWriteHalf {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.as_ref())
    }
}

/// After a wait that was shorter what lay in the page cache is taken to be there still.
const PAUSE: Duration = Duration::from_millis(100);
/// A peer that takes no byte for so long is gone. Longer than a peer with a tight limit of its own pauses to read.
pub const STALLED: Duration = Duration::from_mins(3);

/// Sends a PIECE message whose bytes lie in a file and in the page cache: the kernel takes them from there, nothing is copied to here. Answers how many
/// bytes of the payload went out: fewer where the rest is to be read and sent by the caller, because the file system cannot be sent from, the file has
/// become shorter, or `is_cached` says after a pause that the bytes behind so many have to be waited for by now.
pub async fn send_run(
    socket: &TcpStream,
    run: Block,
    extent: &Extent,
    is_cached: impl Fn(u32) -> bool,
) -> Result<u32, Closed> {
    send_header(socket, run).await?;
    let (mut offset, end) = (extent.offset, extent.offset + u64::from(run.len));
    while offset < end {
        let left = (end - offset) as usize;
        // Rust's runtime ignores SIGPIPE.
        match attempt(socket, || Ok(sendfile(socket, &*extent.file, Some(&mut offset), left)?)) {
            Ok(Some(0)) => break,
            Ok(Some(_)) => {}
            Ok(None) => {
                let since = Instant::now();
                writable(socket).await?;
                if since.elapsed() >= PAUSE && !is_cached((offset - extent.offset) as u32) {
                    break;
                }
            }
            Err(error) if is_of_file(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((offset - extent.offset) as u32)
}

/// The payload is to follow in the same segment.
async fn send_header(socket: &TcpStream, run: Block) -> Result<(), Closed> {
    let header = piece_header(run.piece, run.begin, run.len);
    let (mut left, flags) = (&header[..], SendFlags::NOSIGNAL | SendFlags::MORE);
    while !left.is_empty() {
        match attempt(socket, || Ok(rustix::net::send(socket, left, flags)?))? {
            Some(sent) => left = &left[sent..],
            None => writable(socket).await?,
        }
    }
    Ok(())
}

/// Sends something now; `None`: the socket takes nothing.
fn attempt(socket: &TcpStream, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match socket.try_io(Interest::WRITABLE, &mut send) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => return other.map(Some),
        }
    }
}

/// Whether it is the file that fails, or whose file system cannot be sent from.
fn is_of_file(error: &io::Error) -> bool {
    let of_file = [Errno::IO, Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| of_file.contains(&errno))
}

async fn writable(socket: &TcpStream) -> Result<(), Closed> {
    let ready = tokio::time::timeout(STALLED, socket.writable()).await;
    Ok(ready.map_err(|_| End::NotReading)??)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::{BLOCK, Message};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ours, listener.accept().await.unwrap().0)
    }

    /// A file with so many bytes, from the seventh on.
    fn extent(bytes: &[u8]) -> Extent {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before.").unwrap();
        file.write_all(bytes).unwrap();
        Extent { file: Arc::new(file), offset: 7 }
    }

    #[tokio::test]
    async fn what_is_sent_from_a_file_is_the_message_with_its_bytes() {
        // More than the socket's buffers take at once.
        let bytes: Vec<u8> = (0..800 * BLOCK).map(|at| (at % 251) as u8).collect();
        let run = Block { piece: 3, begin: 16, len: bytes.len() as u32 };
        let mut expected = Vec::new();
        Message::Piece { piece: 3, begin: 16, data: &bytes }.encode(&mut expected);
        let (ours, mut theirs) = pair().await;
        let extent = extent(&bytes);
        let read = tokio::spawn(async move {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            read
        });
        assert_eq!(send_run(&ours, run, &extent, |_| true).await.unwrap(), run.len);
        drop(ours);
        assert!(read.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_sent_as_far_as_it_goes() {
        let (ours, _theirs) = pair().await;
        let run = Block { piece: 0, begin: 0, len: BLOCK };
        assert_eq!(send_run(&ours, run, &extent(&[1; 100]), |_| true).await.unwrap(), 100);
    }

    #[tokio::test]
    async fn what_has_to_be_waited_for_after_a_pause_is_left_to_the_caller() {
        let (ours, mut theirs) = pair().await;
        let bytes = vec![0; 64 << 20];
        let run = Block { piece: 0, begin: 0, len: bytes.len() as u32 };
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE * 10).await;
            let mut nowhere = vec![0; 1 << 20];
            while theirs.read(&mut nowhere).await.unwrap() > 0 {}
        });
        let sent = send_run(&ours, run, &extent(&bytes), |_| false).await.unwrap();
        assert!(0 < sent && sent < run.len, "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_off() {
        let (ours, _theirs) = pair().await;
        let bytes = vec![0; 64 << 20];
        let run = Block { piece: 0, begin: 0, len: bytes.len() as u32 };
        let ended = send_run(&ours, run, &extent(&bytes), |_| true).await;
        assert!(matches!(ended, Err(Closed::Conversation(End::NotReading))), "{ended:?}");
    }
}
