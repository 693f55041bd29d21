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
use super::storage::{read_piece, read_piece_now};
use super::store::blocking;
use super::torrent::Torrent;
use crate::core::PeerKey;
use crate::wire::{Block, Message, piece_header};

/// Blocks served between two looks at control messages, without an upload limit.
const HELPING: u32 = 128 * 1024;
/// The same with one: the peers take turns by this much.
const LIMITED_HELPING: u32 = 32 * 1024;
/// Something is said at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// The writing half.
pub struct Writer<W> {
    torrent: Arc<Torrent>,
    link: Arc<Link>,
    key: PeerKey,
    stream: W,
    fast: bool,
    /// How much of the torrent's list of arrivals has been announced.
    announced: usize,
    news: watch::Receiver<u64>,
    run: Vec<Block>,
    data: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// For a connection that has shaken hands and whose bitfield (which says what was here when `announced` pieces had come)
    /// is in the outbox.
    pub fn new(
        torrent: Arc<Torrent>,
        link: Arc<Link>,
        key: PeerKey,
        fast: bool,
        stream: W,
        announced: usize,
    ) -> Self {
        let news = torrent.news.subscribe();
        Self { torrent, link, key, stream, fast, announced, news, run: Vec::new(), data: Vec::new() }
    }

    /// Writes until the connection ends.
    pub async fn run(&mut self) -> Result<(), Closed> {
        loop {
            let said = self.say().await?;
            let helping =
                if self.torrent.engine.upload_limit.is_limited() { LIMITED_HELPING } else { HELPING };
            self.link.outbox().uploads.next_run(helping, &mut self.run);
            if !self.run.is_empty() {
                self.serve().await?;
            } else if !said {
                self.wait().await?;
            }
        }
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
        if self.news.has_changed().unwrap_or(false) || self.announced == 0 {
            self.news.mark_unchanged();
            let core = self.torrent.core();
            for &piece in &core.haves()[self.announced..] {
                Message::Have(piece).encode(&mut bytes);
            }
            self.announced = core.haves().len();
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        self.stream.write_all(&bytes).await?;
        Ok(true)
    }

    /// Serves a run of blocks of one piece that lie one behind the other.
    async fn serve(&mut self) -> Result<(), Closed> {
        let run = std::mem::take(&mut self.run);
        let bytes: u32 = run.iter().map(|block| block.len).sum();
        self.pay(u64::from(bytes)).await?;
        match self.read(run[0].piece, run[0].begin, bytes).await {
            Ok(()) => {
                write_blocks(&mut self.stream, &run, &self.data).await?;
                self.torrent.counters.uploaded.fetch_add(u64::from(bytes), Ordering::Relaxed);
            }
            Err(error) => self.unreadable(&run, &error)?,
        }
        self.run = run;
        Ok(())
    }

    /// Waits for the upload limit, and says meanwhile what is to be said.
    async fn pay(&mut self, bytes: u64) -> Result<(), Closed> {
        let engine = self.torrent.engine.clone();
        let mut paid = pin!(engine.upload_limit.pass(bytes));
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

    /// Reads into `data`: from the page cache at once, else where waiting is allowed.
    async fn read(&mut self, piece: u32, begin: u32, len: u32) -> io::Result<()> {
        let mut data = std::mem::take(&mut self.data);
        data.resize(len as usize, 0);
        let torrent = &self.torrent;
        if read_piece_now(&*torrent.storage, torrent.metainfo.pieces(), piece, begin, &mut data)? {
            self.data = data;
            return Ok(());
        }
        let torrent = self.torrent.clone();
        self.data = blocking(move || {
            read_piece(&*torrent.storage, torrent.metainfo.pieces(), piece, begin, &mut data)?;
            Ok(data)
        })
        .await?;
        Ok(())
    }

    /// A piece that was verified cannot be read: it is withdrawn and fetched again (T70, T74).
    fn unreadable(&self, run: &[Block], error: &io::Error) -> Result<(), Closed> {
        tracing::warn!(piece = run[0].piece, %error, "a piece cannot be read; it is fetched again");
        self.torrent.withdraw(run[0].piece);
        if self.fast {
            self.link.send(run.iter().map(|block| Message::Reject(*block)));
            return Ok(());
        }
        // Without BEP 6 there is no way to say no; the peer asks elsewhere when the connection ends.
        tracing::debug!(key = ?self.key, "ending a connection that cannot be served");
        Err(Closed::Unreadable)
    }
}

/// Writes PIECE messages, headers and data gathered, without copying the data.
async fn write_blocks(stream: &mut (impl AsyncWrite + Unpin), run: &[Block], data: &[u8]) -> io::Result<()> {
    let headers: Vec<[u8; 13]> = run.iter().map(|b| piece_header(b.piece, b.begin, b.len)).collect();
    let mut slices = Vec::with_capacity(run.len() * 2);
    let mut rest = data;
    for (header, block) in headers.iter().zip(run) {
        let (block, behind) = rest.split_at(block.len as usize);
        slices.push(IoSlice::new(header));
        slices.push(IoSlice::new(block));
        rest = behind;
    }
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let written = stream.write_vectored(left).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}
