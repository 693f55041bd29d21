//! The writing half of a connection: control messages, news, and blocks.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use super::connection::Closed;
use super::link::Link;
use super::open::leaves;
use super::passing::Source;
use super::storage::{Extent, cached_extent, read_piece, read_piece_now};
use super::store::blocking;
use super::torrent::Torrent;
use super::transport::{Outgoing, STALLED, send_run};
use crate::assembly::Leaf;
use crate::conversation::{End, Outlet as _};
use crate::core::PeerKey;
use crate::wire::{BLOCK, Block, HashRequest, MAX_RUN, Message, PIECE_HEADER, piece_header};

/// Blocks served between two looks at control messages, without an upload limit.
const HELPING: u32 = MAX_RUN;
/// The same with one: the peers take turns by this much.
const LIMITED_HELPING: u32 = 32 * 1024;
/// Something is said at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// Where the bytes of a run of blocks are.
enum Payload {
    /// In [`Writer::data`].
    Copied,
    /// In a file, and in the page cache.
    InFile(Extent),
}

/// The writing half.
pub struct Writer<W> {
    torrent: Arc<Torrent>,
    link: Arc<Link>,
    key: PeerKey,
    stream: W,
    fast: bool,
    news: watch::Receiver<u64>,
    /// Payload has gone out.
    sent: bool,
    /// The last message may have been written in part only.
    torn: bool,
    run: Vec<Block>,
    data: Vec<u8>,
}

impl<W: Outgoing> Writer<W> {
    /// For a connection that has shaken hands and whose bitfield is in the outbox.
    pub fn new(torrent: Arc<Torrent>, link: Arc<Link>, key: PeerKey, fast: bool, stream: W) -> Self {
        let mut news = torrent.news.subscribe();
        // What came since the bitfield was made.
        news.mark_changed();
        Self {
            torrent,
            link,
            key,
            stream,
            fast,
            news,
            sent: false,
            torn: false,
            run: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Writes until the connection ends.
    pub async fn run(&mut self) -> Result<(), Closed> {
        loop {
            let said = self.say().await?;
            let (ours, all) = (&self.torrent.upload_limit, &self.torrent.engine.upload_limit);
            let limited = ours.is_limited() || all.is_limited();
            let helping = if limited { LIMITED_HELPING } else { HELPING };
            let passing = &self.torrent.passing;
            let is_here = |block: &Block| passing.is_empty() || passing.is_here(block, &self.link);
            self.link.outbox().uploads.next_run(helping, &mut self.run, is_here);
            let hashing = self.link.outbox().hashing.pop_front();
            if !self.run.is_empty() {
                self.serve().await?;
            }
            if let Some((request, piece)) = hashing {
                self.tell(request, piece).await?;
            } else if self.run.is_empty() && !said {
                self.wait().await?;
            }
        }
    }

    /// Whether payload has gone out.
    pub fn has_sent(&self) -> bool {
        self.sent
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), Closed> {
        tokio::select! {
            () = self.link.wake.notified() => {}
            _ = self.news.changed() => self.news.mark_changed(),
            () = tokio::time::sleep(KEEP_ALIVE) => {
                self.link.send([Message::KeepAlive]);
            }
        }
        Ok(())
    }

    /// Sends control messages and what has come since the last time; says whether there was anything.
    async fn say(&mut self) -> Result<bool, Closed> {
        let mut bytes = std::mem::take(&mut self.link.outbox().control);
        if self.news.has_changed().unwrap_or(false) {
            self.news.mark_unchanged();
            let (news, more) = {
                let mut core = self.torrent.core();
                (core.catch_up(self.key), core.has_hashes_for(self.key))
            };
            if more {
                // Another portion.
                self.news.mark_changed();
            }
            for one in news {
                one.encode(&mut bytes);
            }
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        self.torn = true;
        write_all(&mut self.stream, &mut [IoSlice::new(&bytes)]).await?;
        self.torn = false;
        Ok(true)
    }

    /// Says what is still to be said to a peer that is cut off.
    pub async fn last_words(&mut self) -> Result<(), Closed> {
        if !self.torn {
            self.say().await?;
            self.stream.shutdown().await?;
        }
        Ok(())
    }

    /// Serves a run of blocks of one piece that lie one behind the other.
    async fn serve(&mut self) -> Result<(), Closed> {
        let run = std::mem::take(&mut self.run);
        let whole = Block { len: run.iter().map(|block| block.len).sum(), ..run[0] };
        let takes_run = self.mark_under_way(whole.piece, 0) && is_one_message(&run);
        self.pay(u64::from(whole.len)).await?;
        match self.find(whole, takes_run).await {
            Ok(None) => {
                self.link.send(run.iter().map(|block| Message::Reject(*block)));
            }
            Ok(Some(payload)) => {
                self.torn = true;
                match payload {
                    Payload::InFile(extent) => self.send_from_file(whole, &extent).await?,
                    Payload::Copied if takes_run => {
                        write_blocks(&mut self.stream, &[whole], &self.data).await?;
                    }
                    Payload::Copied => write_blocks(&mut self.stream, &run, &self.data).await?,
                }
                (self.torn, self.sent) = (false, true);
                self.mark_under_way(whole.piece, whole.len);
                self.torrent.counters.uploaded.fetch_add(u64::from(whole.len), Ordering::Relaxed);
                // sendfile(2) is nothing that the runtime counts: others have their turn however fast the peer takes it.
                tokio::task::coop::consume_budget().await;
            }
            Err(error) => self.unreadable(&run, &error)?,
        }
        self.run = run;
        Ok(())
    }

    /// The piece is on its way to this peer, and needs to be given to nobody else meanwhile. Says whether the peer takes runs.
    fn mark_under_way(&self, piece: u32, bytes: u32) -> bool {
        let now = self.torrent.engine.clock.now();
        let mut core = self.torrent.core();
        core.sent(self.key, piece, bytes, now);
        core.takes_runs(self.key)
    }

    /// Waits for the limits of uploads, and says meanwhile what is to be said.
    async fn pay(&mut self, bytes: u64) -> Result<(), Closed> {
        let torrent = self.torrent.clone();
        let mut paid = pin!(async {
            torrent.upload_limit.pass(bytes).await;
            torrent.engine.upload_limit.pass(bytes).await;
        });
        loop {
            tokio::select! {
                biased;
                () = &mut paid => return Ok(()),
                _ = self.news.changed() => self.news.mark_changed(),
                () = self.link.wake.notified() => {}
            }
            self.say().await?;
        }
    }

    /// Finds a run: what is in the page cache stays there if it is to be sent from its file; else it is read into `data`, from memory at once,
    /// from a disk where waiting is allowed. `None`: the piece has been given up.
    async fn find(&mut self, run: Block, from_file: bool) -> io::Result<Option<Payload>> {
        let Block { piece, begin, len } = run;
        let torrent = self.torrent.clone();
        if !torrent.passing.is_empty() {
            self.data.resize(len as usize, 0);
            match torrent.passing.read(piece, begin, &mut self.data) {
                Source::Disk => {}
                Source::Memory => return Ok(Some(Payload::Copied)),
                Source::Nowhere => return Ok(None),
            }
        }
        if from_file
            && self.stream.socket().is_some()
            && let Some(extent) = extent(&torrent, run, 0)?
        {
            return Ok(Some(Payload::InFile(extent)));
        }
        self.data.resize(len as usize, 0);
        if !read_piece_now(&*torrent.storage, torrent.subject.pieces(), piece, begin, &mut self.data)? {
            self.read(piece, begin, len).await?;
        }
        Ok(Some(Payload::Copied))
    }

    /// Reads into `data` where waiting is allowed.
    async fn read(&mut self, piece: u32, begin: u32, len: u32) -> io::Result<()> {
        let (torrent, mut data) = (self.torrent.clone(), std::mem::take(&mut self.data));
        data.resize(len as usize, 0);
        self.data = blocking(move || {
            read_piece(&*torrent.storage, torrent.subject.pieces(), piece, begin, &mut data)?;
            Ok(data)
        })
        .await?;
        Ok(())
    }

    /// Sends a run from its file, and what of it is not in the page cache any more when the peer takes it, as it is read.
    async fn send_from_file(&mut self, run: Block, of: &Extent) -> Result<(), Closed> {
        let Some(socket) = self.stream.socket() else { return Err(Closed::Unreadable) };
        let is_cached = |sent| matches!(extent(&self.torrent, run, sent), Ok(Some(_)));
        let sent = send_run(socket, run, of, is_cached).await?;
        if sent < run.len {
            let read = self.read(run.piece, run.begin + sent, run.len - sent).await;
            if let Err(error) = read {
                // The header has said that it comes.
                self.torrent.unreadable(run.piece, &error);
                return Err(Closed::Unreadable);
            }
            write_all(&mut self.stream, &mut [IoSlice::new(&self.data)]).await?;
        }
        Ok(())
    }

    /// Answers a hash request from the bytes of a piece.
    async fn tell(&mut self, request: HashRequest, piece: u32) -> Result<(), Closed> {
        let kept = self.torrent.leaves.of(piece);
        let read = match kept {
            Some(leaves) => Ok(leaves),
            None => self.leaves(piece).await,
        };
        match read {
            Ok(leaves) => {
                let hashes = self.torrent.subject.answer_from(&request, &leaves);
                self.link.send([Message::Hashes { request, hashes: hashes.as_flattened() }]);
            }
            Err(error) => {
                self.torrent.unreadable(piece, &error);
                self.link.send([Message::HashReject(request)]);
            }
        }
        Ok(())
    }

    /// Reads and hashes a piece, and keeps the hashes.
    async fn leaves(&self, piece: u32) -> io::Result<Arc<[Leaf]>> {
        let _turn = self.torrent.engine.disk.acquire().await;
        let torrent = self.torrent.clone();
        let leaves: Arc<[Leaf]> = blocking(move || leaves(&torrent, piece)).await?.into();
        let expected = self.torrent.subject.v2_hash(piece);
        if !expected.is_some_and(|expected| expected.is_of(&leaves)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what it was"));
        }
        self.torrent.leaves.keep(piece, leaves.clone());
        Ok(leaves)
    }

    /// A piece that was verified cannot be read.
    fn unreadable(&self, run: &[Block], error: &io::Error) -> Result<(), Closed> {
        self.torrent.unreadable(run[0].piece, error);
        if self.fast {
            self.link.send(run.iter().map(|block| Message::Reject(*block)));
            return Ok(());
        }
        // Without BEP 6 there is no way to say no; the peer asks elsewhere when the connection ends.
        tracing::debug!(key = ?self.key, "ending a connection that cannot be served");
        Err(Closed::Unreadable)
    }
}

/// Whether a run can go in one message: who takes it cuts it into blocks of the usual length.
fn is_one_message(run: &[Block]) -> bool {
    run.iter().rev().skip(1).all(|block| block.len == BLOCK)
}

/// Where a run lies behind so many of its bytes, if that is in one file and in the page cache.
fn extent(torrent: &Torrent, run: Block, sent: u32) -> io::Result<Option<Extent>> {
    let (begin, len) = (run.begin + sent, run.len - sent);
    cached_extent(&*torrent.storage, torrent.subject.pieces(), run.piece, begin, len)
}

/// Writes PIECE messages, headers and data gathered, without copying the data.
async fn write_blocks(
    stream: &mut (impl AsyncWrite + Unpin),
    run: &[Block],
    data: &[u8],
) -> Result<(), Closed> {
    let headers: Vec<[u8; PIECE_HEADER]> =
        run.iter().map(|b| piece_header(b.piece, b.begin, b.len)).collect();
    let mut slices = Vec::with_capacity(run.len() * 2);
    let mut rest = data;
    for (header, block) in headers.iter().zip(run) {
        let (block, behind) = rest.split_at(block.len as usize);
        slices.push(IoSlice::new(header));
        slices.push(IoSlice::new(block));
        rest = behind;
    }
    write_all(stream, &mut slices).await
}

/// Writes everything, as long as the peer takes some of it now and then.
async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut left: &mut [IoSlice<'_>],
) -> Result<(), Closed> {
    while !left.is_empty() {
        let written = tokio::time::timeout(STALLED, stream.write_vectored(left)).await;
        let written = written.map_err(|_| End::NotReading)??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_cut_off_and_a_slow_one_is_not() {
        let bytes = [7; 64];
        let (mut ours, theirs) = tokio::io::duplex(16);
        let stuck = write_all(&mut ours, &mut [IoSlice::new(&bytes)]).await;
        assert!(matches!(stuck, Err(Closed::Conversation(End::NotReading))), "{stuck:?}");
        drop(theirs);

        let (mut ours, mut theirs) = tokio::io::duplex(16);
        let slow = tokio::spawn(async move {
            let mut part = [0; 16];
            for _ in 0..4 {
                tokio::time::sleep(STALLED * 2 / 3).await;
                tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut part).await.unwrap();
            }
        });
        write_all(&mut ours, &mut [IoSlice::new(&bytes)]).await.unwrap();
        slow.await.unwrap();
    }
}
