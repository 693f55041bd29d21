//! What one connection says and does: the peer's messages in, ours out, pieces put together and handed over.
//!
//! Pure: the time and randomness are arguments, the torrent is a [`Host`], the way out an [`Outlet`]. The same conversation
//! runs on a socket and in the simulator. It takes the torrent's lock once per piece or control message, never per block.

mod asking;
mod greeting;
mod passing;
mod serving;
mod telling;

use std::collections::BTreeSet;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;

use crate::assembly::{Assembly, Keep, Leaf};
use crate::core::{PeerKey, Source, TorrentCore, Violation};
use crate::download::Download;
use crate::hashes::Answer;
use crate::upload::BadRequest;
use crate::wire::{Block, HashRequest, LT_DONTHAVE, Message, SM_BAD, SM_COMING, SM_HASHES, UT_METADATA};

/// A peer that says nothing for so long is gone; keep-alives come every two minutes.
const IDLE: Duration = Duration::from_mins(3);
/// How often a conversation has to be given the time ([`Conversation::tick`]).
pub const TICK: Duration = Duration::from_millis(200);
/// The same while we want nothing of the peer.
pub const RESTING_TICK: Duration = Duration::from_secs(1);

/// A piece on its way in.
pub type Piece<H> = Assembly<<H as Host>::Buffer, Source>;

/// The torrent that a conversation is about.
pub trait Host {
    /// Holds the bytes of a piece under way.
    type Buffer: Keep;

    /// Who has what and who fetches what: locked for one statement, never across two calls.
    fn core(&self) -> impl DerefMut<Target = TorrentCore>;
    /// Payload bytes of a piece; 0 if there is no such piece.
    fn len(&self, piece: u32) -> u32;
    /// Bytes that peers may ask for ([`torrent::PieceMap::padded_len`]).
    fn padded_len(&self, piece: u32) -> u32;
    /// Memory for so many bytes; `None` if there is none now.
    fn buffer(&self, len: u32) -> Option<Self::Buffer>;
    /// The pieces of which parts were kept.
    fn shelved(&self) -> Vec<u32>;
    /// What was kept of a piece.
    fn unshelve(&self, piece: u32) -> Option<Piece<Self>>;
    /// Keeps what is there of a piece for whoever fetches it next.
    fn shelve(&self, piece: Piece<Self>);
    /// Whether the bytes of a piece that is whole are the right ones. `from` has sent the last of them.
    fn is_genuine(&self, piece: &Piece<Self>, from: Source) -> bool;
    /// This peer owes blocks and sends none.
    fn snubbed(&self, by: Source);
    /// What asks a peer for the leaves of a piece (BEP 52); `None` if there is no tree, or only one leaf.
    fn leaf_request(&self, piece: u32) -> Option<HashRequest>;
    /// The leaves of a piece, if the answer to that request is right.
    fn leaves(&self, piece: u32, hashes: &[u8]) -> Option<Arc<[Leaf]>>;
    /// Blocks of this piece, whose leaves are known, will be served while it comes in, from its buffer; `false` if
    /// another connection fetches it so.
    fn pass_on(&self, piece: &Piece<Self>, leaves: Arc<[Leaf]>) -> bool;
    /// A block of such a piece has come, and is right.
    fn pass_block(&self, piece: u32, begin: u32);
    /// The piece is given up: nothing of it is served any more. Says whether anything was.
    fn stop_passing(&self, piece: u32) -> bool;
    /// A piece that is here is being asked for, by one who gets it: some of those are looked at, where that is of use.
    fn gives(&self, _piece: u32) {}
    /// Whether a piece that is here is what it has to be: `by` says that it is not ([`TorrentCore::doubt`]).
    fn look_at(&self, piece: u32, _by: PeerKey) {
        self.core().leave_doubt(piece);
    }
    /// Takes a genuine piece, to write it and then say [`TorrentCore::arrived`].
    fn store(&self, piece: Piece<Self>);
    /// So many bytes of payload were received for nothing.
    fn wasted(&self, bytes: u64);
    /// All conversations should [`Conversation::look_again`].
    fn bump(&self);
    /// The raw `info`, for those who have only a magnet link (BEP 9); `None` if it is not known.
    fn info(&self) -> Option<Arc<[u8]>>;
    /// Takes in signed hashes of a torrent that grows, which this peer has brought. `false`: nobody vouches for them.
    fn take_hashes(&self, batch: &[u8], from: PeerKey) -> bool;
    /// The answer to a sane hash request (BEP 52).
    fn hashes(&self, request: &HashRequest) -> Answer;
}

/// Where a conversation leaves what is to be sent.
pub trait Outlet {
    /// Messages, in order; `false` if the peer does not read and too much waits.
    fn send<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> bool;
    /// A request that will be answered; `false` if too many wait already (T27).
    fn owe(&self, block: Block) -> bool;
    /// The peer takes a request back; says whether it was still waiting.
    fn forgive(&self, block: Block) -> bool;
    /// The pieces of which something is owed.
    fn owed(&self) -> BTreeSet<u32>;
    /// Nothing of these pieces is answered any more: takes the requests back.
    fn forgive_pieces(&self, pieces: &BTreeSet<u32>) -> Vec<Block>;
    /// Nothing is answered any more: takes the requests back.
    fn forgive_all(&self) -> Vec<Block>;
    /// A hash request that will be answered from the bytes of `piece`; `false` if too many wait already.
    fn owe_hashes(&self, request: HashRequest, piece: u32) -> bool;
}

/// What surrounds one step of a conversation.
pub struct Scene<'a, H, O> {
    /// The torrent.
    pub host: &'a H,
    /// The way out.
    pub out: &'a O,
    /// Since the start of the engine.
    pub now: Duration,
    /// Which of equally good pieces.
    pub rng: &'a mut dyn RngCore,
}

impl<H, O: Outlet> Scene<'_, H, O> {
    fn send<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> Result<(), End> {
        if self.out.send(messages) { Ok(()) } else { Err(End::NotReading) }
    }
}

/// Why a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// A message that no correct client sends now.
    #[error(transparent)]
    Pieces(#[from] Violation),
    /// A request that no correct client sends.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// Something else that no correct client does.
    #[error("the peer sent {0}")]
    Violation(&'static str),
    /// The peer does not read what we send.
    #[error("the peer does not read")]
    NotReading,
    /// The peer says nothing.
    #[error("the peer is silent")]
    Idle,
    /// The peer sent a bad piece.
    #[error("the peer sent bad data")]
    BadData,
    /// The peer is none of ours, and the torrent still grows: there is nothing by which it could verify what it gets.
    #[error("a stranger asks for a torrent that is not known whole yet")]
    Stranger,
    /// The torrent wants it to end: its twin is kept, or the peer is banned.
    #[error("the connection is not wanted any more")]
    Doomed,
    /// Nobody lacks anything.
    #[error("both sides have all that they want")]
    BothComplete,
}

/// One conversation.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; any combination of them occurs"
)]
pub struct Conversation<B> {
    key: PeerKey,
    source: Source,
    /// Both sides speak the fast extension.
    fast: bool,
    download: Download<B, Source>,
    /// The peer does not serve us.
    choked: bool,
    /// The peer was told that we do not serve it.
    choking: bool,
    interested: bool,
    /// Nothing could be reserved: asked again when there is news.
    starved: bool,
    snubbed_until: Duration,
    last_heard: Duration,
    admitted: Option<(u32, Duration)>,
    /// Under which id the peer takes messages of BEP 9.
    ut_metadata: Option<u8>,
    /// Parts of `info` that the peer was sent.
    told: u32,
    /// Pieces in flight whose leaves were asked for and have not come.
    asked_leaves: BTreeSet<u32>,
    /// The peer was told of a wrong piece of its.
    reproached: bool,
    /// Both sides speak the extension protocol.
    extended: bool,
    /// Where we listen.
    port: Option<u16>,
    /// The peer was told that we want nothing more.
    told_sated: bool,
}

impl<B: Keep> Conversation<B> {
    /// With a peer that has shaken hands and is known to the torrent.
    pub fn new(key: PeerKey, source: Source, fast: bool, now: Duration) -> Self {
        Self {
            key,
            source,
            fast,
            download: Download::new(source, now),
            choked: true,
            choking: true,
            interested: false,
            starved: false,
            snubbed_until: Duration::ZERO,
            last_heard: now,
            admitted: None,
            ut_metadata: None,
            told: 0,
            asked_leaves: BTreeSet::new(),
            reproached: false,
            extended: false,
            port: None,
            told_sated: false,
        }
    }

    /// A message of the peer. [`Conversation::refill`] follows when all that have come are handled.
    pub fn handle<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        message: Message<'_>,
        scene: &mut Scene<'_, H, O>,
    ) -> Result<(), End> {
        match message {
            Message::Piece { piece, begin, data } => self.block(piece, begin, data, scene),
            Message::Request(block) => self.request(block, scene),
            Message::Cancel(block) => self.cancel(block, scene),
            Message::Choke => {
                self.choked(scene);
                Ok(())
            }
            Message::Unchoke => {
                self.choked = false;
                self.starved = false;
                Ok(())
            }
            Message::Reject(block) => {
                self.rejected(block, scene);
                Ok(())
            }
            Message::Suggest(piece) => Ok(scene.host.core().suggested(self.key, piece)?),
            Message::Have(_) | Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => {
                self.pieces(message, scene)
            }
            Message::Extended { id: 0, payload } => self.extended(payload, scene),
            Message::Extended { id: UT_METADATA, payload } => self.metadata(payload, scene),
            Message::Extended { id: id @ (SM_COMING | LT_DONTHAVE | SM_BAD), payload } => {
                self.notice(id, payload, scene)
            }
            Message::Extended { id: SM_HASHES, payload } => self.learn(payload, scene),
            Message::Hashes { request, hashes } => self.hashes(&request, hashes, scene),
            Message::HashRequest(request) => self.hash_request(request, scene),
            Message::Interested | Message::NotInterested => {
                scene.host.core().peer_interested(self.key, message == Message::Interested);
                self.choke_or_unchoke(scene)
            }
            // DHT ports and hints are not used.
            _ => Ok(()),
        }
    }

    /// Bytes of the peer have come, of whatever kind.
    pub fn heard(&mut self, now: Duration) {
        self.last_heard = now;
    }

    /// For so long the peer was not listened to, so that its silence means nothing.
    pub fn looked_away(&mut self, time: Duration) {
        self.last_heard += time;
        self.download.looked_away(time);
    }

    /// When the peer was heard last.
    #[cfg(test)]
    pub(crate) fn last_heard(&self) -> Duration {
        self.last_heard
    }

    /// Something has changed in the torrent.
    pub fn look_again<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        scene: &mut Scene<'_, H, O>,
    ) -> Result<(), End> {
        self.starved = false;
        let (doomed, superseded, useless, sated) = {
            let core = scene.host.core();
            self.admitted.take_if(|(piece, _)| !core.can_serve(*piece));
            let sated = self.is_sated(&core);
            (core.is_doomed(self.key), core.superseded(self.key), core.is_useless(self.key), sated)
        };
        if doomed {
            self.reproach(scene);
            return Err(End::Doomed);
        }
        self.retract(scene)?;
        for piece in superseded {
            self.give_up(piece, false, scene);
        }
        if useless {
            return Err(End::BothComplete);
        }
        self.say_if_sated(sated, scene)?;
        self.choke_or_unchoke(scene)?;
        self.show_interest(scene)
    }

    /// Whether nothing is wanted of the peer, and nothing is on its way from it: then [`RESTING_TICK`] is often enough.
    pub fn is_resting(&self) -> bool {
        !self.interested && self.download.outstanding() == 0
    }

    /// Time has passed; at least every [`TICK`], or [`RESTING_TICK`].
    pub fn tick<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &mut Scene<'_, H, O>) -> Result<(), End> {
        if scene.now.saturating_sub(self.last_heard) > IDLE {
            return Err(End::Idle);
        }
        self.notice_snub(scene);
        if scene.host.core().rechoke(scene.now, &mut scene.rng) {
            scene.host.bump();
        }
        self.look_again(scene)
    }

    /// The peer says what it has.
    fn pieces<H: Host, O: Outlet>(
        &mut self,
        message: Message<'_>,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        {
            let mut core = scene.host.core();
            match message {
                Message::Have(piece) => core.peer_has(self.key, piece)?,
                Message::Bitfield(bits) => core.peer_bitfield(self.key, bits)?,
                Message::HaveAll => core.peer_has_all(self.key, true)?,
                _ => core.peer_has_all(self.key, false)?,
            }
        }
        self.starved = false;
        self.show_interest(scene)
    }

    /// Tells the peer whether it has something that we lack.
    fn show_interest<H: Host, O: Outlet>(&mut self, scene: &Scene<'_, H, O>) -> Result<(), End> {
        let interesting = scene.host.core().is_interesting(self.key);
        if interesting == self.interested {
            return Ok(());
        }
        self.interested = interesting;
        scene.send([if interesting { Message::Interested } else { Message::NotInterested }])
    }
}
