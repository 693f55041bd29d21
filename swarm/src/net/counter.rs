//! Where a peer's requests are taken: checked, admitted, queued for the writer.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::connection::Closed;
use super::link::Link;
use super::torrent::Torrent;
use crate::core::{Admission, PeerKey};
use crate::upload::UploadQueue;
use crate::wire::{Block, Message};

/// An admitted piece is served so long before the torrent is asked again.
const ADMITTED_FOR: Duration = Duration::from_secs(1);

/// Takes the requests of one connection.
pub struct Counter {
    torrent: Arc<Torrent>,
    link: Arc<Link>,
    key: PeerKey,
    /// Both sides speak the fast extension.
    fast: bool,
    admitted: Option<(u32, Duration)>,
    rng: StdRng,
}

impl Counter {
    /// Nothing has been asked for.
    pub fn new(torrent: Arc<Torrent>, link: Arc<Link>, key: PeerKey, fast: bool) -> Self {
        Self { torrent, link, key, fast, admitted: None, rng: StdRng::from_rng(&mut rand::rng()) }
    }

    /// REQUEST: queued, refused, or the end of the connection.
    pub fn request(&mut self, block: Block) -> Result<(), Closed> {
        UploadQueue::check(block, self.torrent.metainfo.pieces().padded_len(block.piece))?;
        match self.admit(block.piece) {
            Admission::Serve => {}
            Admission::Reject => return self.refuse(block),
            Admission::Redirect(other) => {
                self.refuse(block)?;
                return self.send(Message::Suggest(other));
            }
        }
        let taken = self.link.outbox().uploads.push(block);
        if !taken {
            return self.refuse(block);
        }
        self.link.wake.notify_one();
        Ok(())
    }

    /// Whether to serve a piece: asked of the torrent once per piece, not per block.
    fn admit(&mut self, piece: u32) -> Admission {
        let now = self.torrent.engine.clock.now();
        if self
            .admitted
            .is_some_and(|(admitted, since)| admitted == piece && now.saturating_sub(since) < ADMITTED_FOR)
        {
            return Admission::Serve;
        }
        let admission = self.torrent.core().admit(self.key, piece, now, &mut self.rng);
        if admission == Admission::Serve {
            self.admitted = Some((piece, now));
        }
        admission
    }

    /// Says no, where the peer understands it (BEP 6); else its request is forgotten, as BEP 3 has it.
    fn refuse(&self, block: Block) -> Result<(), Closed> {
        if self.fast { self.send(Message::Reject(block)) } else { Ok(()) }
    }

    /// CANCEL.
    pub fn cancel(&mut self, block: Block) -> Result<(), Closed> {
        let waiting = self.link.outbox().uploads.cancel(block);
        if waiting { self.refuse(block) } else { Ok(()) }
    }

    fn send(&self, message: Message<'_>) -> Result<(), Closed> {
        if self.link.send([message]) { Ok(()) } else { Err(Closed::NotReading) }
    }
}
