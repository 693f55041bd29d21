//! What a connection runs over, and the shortest way that bytes of a file have through it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::sockopt::set_tcp_cork;
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
    /// The socket, if what is written to it goes to the peer as it is: then the kernel can send from a file.
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

/// A peer that takes no byte for so long is gone. Longer than a peer with a tight limit of its own pauses to read.
pub const STALLED: Duration = Duration::from_mins(3);

/// Sends blocks that lie in a file one behind the other, each behind its header. Nothing of the file is copied to here: the kernel takes it from
/// the page cache.
pub async fn send_blocks(socket: &TcpStream, run: &[Block], extent: &Extent) -> Result<(), Closed> {
    let mut offset = extent.offset;
    // Headers and blocks fill segments together.
    set_tcp_cork(socket, true).map_err(io::Error::from)?;
    for block in run {
        send_bytes(socket, &piece_header(block.piece, block.begin, block.len)).await?;
        send_range(socket, &extent.file, offset, block.len as usize).await?;
        offset += u64::from(block.len);
    }
    set_tcp_cork(socket, false).map_err(io::Error::from)?;
    // The other half of the connection, and other connections, have their turn however fast the peer takes this.
    tokio::task::coop::consume_budget().await;
    Ok(())
}

async fn send_range(socket: &TcpStream, file: &File, mut offset: u64, len: usize) -> Result<(), Closed> {
    let end = offset + len as u64;
    while offset < end {
        let left = (end - offset) as usize;
        let send = || Ok(sendfile(socket, file, Some(&mut offset), left)?);
        match when_writable(socket, send).await {
            // It was longer a moment ago.
            Ok(0) => return Err(Closed::Unreadable),
            Err(Closed::Io(error)) if is_unknown(&error) => {
                let mut bytes = vec![0; left];
                file.read_exact_at(&mut bytes, offset)?;
                return send_bytes(socket, &bytes).await;
            }
            other => other?,
        };
    }
    Ok(())
}

/// Whether a file system cannot be sent from.
fn is_unknown(error: &io::Error) -> bool {
    let unknown = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| unknown.contains(&errno))
}

async fn send_bytes(socket: &TcpStream, mut bytes: &[u8]) -> Result<(), Closed> {
    while !bytes.is_empty() {
        let sent =
            when_writable(socket, || Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)).await?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Does something with a socket that takes bytes again, as soon as it does.
async fn when_writable<T>(socket: &TcpStream, mut act: impl FnMut() -> io::Result<T>) -> Result<T, Closed> {
    loop {
        match socket.try_io(Interest::WRITABLE, &mut act) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = tokio::time::timeout(STALLED, socket.writable()).await;
                ready.map_err(|_| End::NotReading)??;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return Ok(other?),
        }
    }
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
    async fn what_is_sent_from_a_file_is_what_messages_with_its_bytes_encode_to() {
        let bytes: Vec<u8> = (0..200 * BLOCK).map(|at| (at % 251) as u8).collect();
        let block = |at: u32, len: u32| Block { piece: 3, begin: at * BLOCK, len };
        // More than the socket's buffers take at once.
        let frames = [block(0, BLOCK), block(1, 8 * BLOCK), block(9, 190 * BLOCK), block(199, 5)];
        let mut expected = Vec::new();
        for Block { piece, begin, len } in frames {
            let data = &bytes[begin as usize..(begin + len) as usize];
            Message::Piece { piece, begin, data }.encode(&mut expected);
        }
        let (ours, mut theirs) = pair().await;
        let extent = extent(&bytes);
        let read = tokio::spawn(async move {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            read
        });
        send_blocks(&ours, &frames, &extent).await.unwrap();
        drop(ours);
        assert!(read.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_ends_the_connection() {
        let (ours, _theirs) = pair().await;
        let extent = extent(&[1; 100]);
        let block = Block { piece: 0, begin: 0, len: BLOCK };
        let ended = send_blocks(&ours, &[block], &extent).await;
        assert!(matches!(ended, Err(Closed::Unreadable)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_off() {
        let (ours, _theirs) = pair().await;
        let bytes = vec![0; 64 << 20];
        let extent = extent(&bytes);
        let block = Block { piece: 0, begin: 0, len: bytes.len() as u32 };
        let ended = send_blocks(&ours, &[block], &extent).await;
        assert!(matches!(ended, Err(Closed::Conversation(End::NotReading))), "{ended:?}");
    }
}
