//! The reading half of a connection: messages in, requests out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt};
use torrent::merkle;

use super::budget::Buffer;
use super::connection::Closed;
use super::counter::Counter;
use super::link::Link;
use super::torrent::{Piece, Torrent};
use crate::assembly::Assembly;
use crate::core::{PeerKey, Source};
use crate::download::{Arrival, Download};
use crate::wire::{self, Block, Decoded, ExtensionHandshake, Message};

/// Read from the socket at a time.
const READ: usize = 256 * 1024;
/// How often a connection looks at the time.
const TICK: Duration = Duration::from_millis(200);
/// A peer that says nothing for so long is gone; keep-alives come every two minutes.
const IDLE: Duration = Duration::from_mins(3);
/// A peer that snubbed us is asked again after so long.
const SNUB_PAUSE: Duration = Duration::from_secs(30);

/// The reading half.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; any combination of them occurs"
)]
pub struct Reader<R> {
    torrent: Arc<Torrent>,
    link: Arc<Link>,
    key: PeerKey,
    source: Source,
    stream: R,
    buffer: Vec<u8>,
    filled: usize,
    download: Download<Buffer, Source>,
    /// Both sides speak the fast extension.
    fast: bool,
    choked: bool,
    interested: bool,
    /// Nothing could be reserved: asked again when there is news.
    starved: bool,
    snubbed_until: Duration,
    counter: Counter,
    last_heard: Duration,
    /// Payload bytes since the download limit was last asked.
    unpaid: u64,
    /// Payload has come in.
    received: bool,
    rng: StdRng,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// For a connection that has shaken hands.
    pub fn new(
        torrent: Arc<Torrent>,
        link: Arc<Link>,
        key: PeerKey,
        source: Source,
        fast: bool,
        stream: R,
    ) -> Self {
        let now = torrent.engine.clock.now();
        let counter = Counter::new(torrent.clone(), link.clone(), key, fast);
        Self {
            counter,
            torrent,
            link,
            key,
            source,
            stream,
            buffer: vec![0; READ],
            filled: 0,
            download: Download::new(source, now),
            fast,
            choked: true,
            interested: false,
            starved: false,
            snubbed_until: Duration::ZERO,
            last_heard: now,
            unpaid: 0,
            received: false,
            rng: StdRng::from_rng(&mut rand::rng()),
        }
    }

    /// Reads until the connection ends.
    pub async fn run(&mut self) -> Result<(), Closed> {
        let mut news = self.torrent.news.subscribe();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                read = self.stream.read(&mut self.buffer[self.filled..]) => {
                    let read = read?;
                    if read == 0 {
                        return Err(Closed::ByPeer);
                    }
                    self.filled += read;
                    self.last_heard = self.torrent.engine.clock.now();
                    self.consume()?;
                }
                _ = news.changed() => self.look_again()?,
                _ = tick.tick() => self.tick()?,
            }
            self.refill()?;
            if self.unpaid > 0 {
                self.pay().await;
            }
        }
    }

    /// Waits for the download limit. That we do not listen meanwhile is not the peer's silence.
    async fn pay(&mut self) {
        let before = self.torrent.engine.clock.now();
        self.torrent.engine.download_limit.pass(std::mem::take(&mut self.unpaid)).await;
        let waited = self.torrent.engine.clock.now().saturating_sub(before);
        self.last_heard += waited;
        self.download.looked_away(waited);
    }

    /// Whether payload has come in.
    pub fn has_received(&self) -> bool {
        self.received
    }

    /// Gives all pieces back, half-fetched ones to whoever comes next.
    pub fn give_up_all(&mut self) {
        let pieces: Vec<u32> = self.download.pieces().collect();
        for piece in pieces {
            self.give_up(piece, true);
        }
    }

    /// Handles all whole messages of the buffer.
    fn consume(&mut self) -> Result<(), Closed> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut used = 0;
        let mut needed = 0;
        let result = loop {
            match wire::decode(&buffer[used..self.filled]) {
                Ok(Decoded::Message(message, len)) => {
                    used += len;
                    if let Err(closed) = self.handle(message) {
                        break Err(closed);
                    }
                }
                Ok(Decoded::Need(bytes)) => {
                    needed = bytes;
                    break Ok(());
                }
                Err(error) => break Err(error.into()),
            }
        };
        buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        if buffer.len() < needed {
            buffer.resize(needed, 0);
        }
        self.buffer = buffer;
        result
    }

    fn handle(&mut self, message: Message<'_>) -> Result<(), Closed> {
        match message {
            Message::Piece { piece, begin, data } => self.block(piece, begin, data),
            Message::Request(block) => self.counter.request(block),
            Message::Cancel(block) => self.counter.cancel(block),
            Message::Choke => {
                self.choked();
                Ok(())
            }
            Message::Unchoke => {
                self.choked = false;
                self.starved = false;
                Ok(())
            }
            Message::Reject(block) => {
                self.rejected(block);
                Ok(())
            }
            Message::Suggest(piece) => Ok(self.torrent.core().suggested(self.key, piece)?),
            Message::Have(_) | Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => {
                self.pieces(message)
            }
            Message::Extended { id: 0, payload } => self.extended(payload),
            Message::HashRequest(request) if !request.is_sane() => {
                Err(Closed::Violation("a senseless hash request"))
            }
            // Whoever has the metainfo has all piece hashes; whoever has not can ask others.
            Message::HashRequest(request) => self.send([Message::HashReject(request)]),
            // We unchoke everyone, so interest changes nothing; DHT ports, hashes and hints are not used.
            _ => Ok(()),
        }
    }

    fn send<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> Result<(), Closed> {
        if self.link.send(messages) { Ok(()) } else { Err(Closed::NotReading) }
    }

    /// The peer says what it has.
    fn pieces(&mut self, message: Message<'_>) -> Result<(), Closed> {
        {
            let mut core = self.torrent.core();
            match message {
                Message::Have(piece) => core.peer_has(self.key, piece)?,
                Message::Bitfield(bits) => core.peer_bitfield(self.key, bits)?,
                Message::HaveAll => core.peer_has_all(self.key, true)?,
                _ => core.peer_has_all(self.key, false)?,
            }
        }
        self.starved = false;
        self.show_interest()
    }

    /// Tells the peer whether it has something that we lack.
    fn show_interest(&mut self) -> Result<(), Closed> {
        let interesting = self.torrent.core().is_interesting(self.key);
        if interesting == self.interested {
            return Ok(());
        }
        self.interested = interesting;
        self.send([if interesting { Message::Interested } else { Message::NotInterested }])
    }

    fn extended(&mut self, payload: &[u8]) -> Result<(), Closed> {
        let said = ExtensionHandshake::decode(payload)
            .map_err(|_| Closed::Violation("a malformed extension handshake"))?;
        if let Some(reqq) = said.reqq {
            self.download.set_reqq(reqq as usize);
        }
        let mut core = self.torrent.core();
        core.peer_is_own(self.key, said.is_own());
        said.port.into_iter().for_each(|port| core.peer_listens(self.key, port));
        Ok(())
    }

    /// Asks for more, up to what the connection can carry.
    fn refill(&mut self) -> Result<(), Closed> {
        let now = self.torrent.engine.clock.now();
        if self.choked || !self.interested || now < self.snubbed_until {
            return Ok(());
        }
        let mut blocks = Vec::new();
        while self.download.fill(now, &mut blocks) && !self.starved {
            self.starved = !self.reserve(now);
        }
        if blocks.is_empty() { Ok(()) } else { self.send(blocks.into_iter().map(Message::Request)) }
    }

    /// Takes one more piece; `false` if there is none, or no memory for it now.
    fn reserve(&mut self, now: Duration) -> bool {
        let shelved = self.torrent.shelved();
        let reserved = self.torrent.core().reserve_first(&shelved, self.key, now, &mut self.rng);
        let Some(reservation) = reserved else { return false };
        let piece = reservation.piece;
        let kept = if reservation.again { None } else { self.torrent.unshelve(piece) };
        let len = self.torrent.metainfo.pieces().len(piece);
        let fresh = || Some(Assembly::new(piece, len, self.torrent.engine.buffer(len as usize)?));
        let Some(assembly) = kept.or_else(fresh) else {
            self.torrent.core().release(self.key, piece);
            return false;
        };
        self.download.add(assembly, now);
        true
    }

    fn block(&mut self, piece: u32, begin: u32, data: &[u8]) -> Result<(), Closed> {
        let now = self.torrent.engine.clock.now();
        let len = data.len() as u64;
        let counters = &self.torrent.counters;
        counters.downloaded.fetch_add(len, Ordering::Relaxed);
        self.unpaid += len;
        self.received = true;
        match self.download.arrived(piece, begin, data, now) {
            Arrival::Block => Ok(()),
            Arrival::Complete(assembly) => self.complete(assembly),
            Arrival::Unwanted => {
                counters.wasted.fetch_add(len, Ordering::Relaxed);
                Ok(())
            }
            Arrival::Flood => Err(Closed::Violation("blocks that nobody asked for")),
        }
    }

    /// All blocks of a piece are here: they prove themselves, or someone lied.
    fn complete(&mut self, assembly: Piece) -> Result<(), Closed> {
        let piece = assembly.piece();
        if self.is_genuine(&assembly) {
            self.torrent.core().handed_over(self.key, piece, &assembly.leaves());
            self.torrent.tasks.spawn(self.torrent.clone().store(assembly));
            self.starved = false;
            return Ok(());
        }
        tracing::info!(piece, from = ?self.source, "a piece does not verify");
        self.torrent.wasted(&assembly);
        let doomed = {
            let mut core = self.torrent.core();
            core.failed(self.key, piece, assembly.evidence());
            core.is_doomed(self.key)
        };
        self.torrent.bump();
        if doomed { Err(Closed::BadData) } else { Ok(()) }
    }

    /// Against the v2 tree if there is one, else against SHA-1.
    fn is_genuine(&self, assembly: &Piece) -> bool {
        let pieces = self.torrent.metainfo.pieces();
        match pieces.v2_hash(assembly.piece()) {
            Some(expected) => {
                merkle::subtree_root(&assembly.leaves(), 0, expected.padded_to.max(1).ilog2())
                    == expected.root
            }
            None => {
                pieces.v1_hash(assembly.piece()).is_some_and(|hash| Sha1::digest(assembly.data())[..] == hash)
            }
        }
    }

    /// With BEP 6 the peer says what becomes of each request; without it, all that were out are forgotten, and nobody knows for
    /// how long: others go on with the pieces.
    fn choked(&mut self) {
        self.choked = true;
        if !self.fast {
            self.download.choked();
            self.give_up_all();
            self.torrent.bump();
        }
    }

    fn rejected(&mut self, block: Block) {
        if self.download.rejected(block) {
            let now = self.torrent.engine.clock.now();
            self.give_up(block.piece, true);
            self.torrent.core().refused(self.key, block.piece, now);
            self.starved = false;
        }
    }

    /// Gives one piece up; `keep` what is there of it for another connection.
    fn give_up(&mut self, piece: u32, keep: bool) {
        let Some((assembly, blocks)) = self.download.give_up(piece) else { return };
        // A peer that does not read is found by the next message that matters.
        let _ = self.link.send(blocks.into_iter().map(Message::Cancel));
        if keep {
            self.torrent.shelve(assembly);
        } else {
            self.torrent.wasted(&assembly);
        }
        self.torrent.core().release(self.key, piece);
    }

    /// Something has changed in the torrent.
    fn look_again(&mut self) -> Result<(), Closed> {
        self.starved = false;
        let (doomed, superseded, useless) = {
            let core = self.torrent.core();
            let useless = core.is_complete() && core.peers().get(&self.key).is_some_and(|peer| peer.is_seed);
            (core.is_doomed(self.key), core.superseded(self.key), useless)
        };
        if doomed {
            return Err(Closed::Doomed);
        }
        for piece in superseded {
            self.give_up(piece, false);
        }
        if useless {
            return Err(Closed::BothComplete);
        }
        self.show_interest()
    }

    fn tick(&mut self) -> Result<(), Closed> {
        let now = self.torrent.engine.clock.now();
        if now.saturating_sub(self.last_heard) > IDLE {
            return Err(Closed::Idle);
        }
        if self.download.is_snubbed(now) {
            tracing::debug!(from = ?self.source, "a peer owes blocks and sends none");
            self.give_up_all();
            self.snubbed_until = now + SNUB_PAUSE;
            self.torrent.bump();
        }
        self.look_again()
    }
}

#[cfg(test)]
mod tests;
