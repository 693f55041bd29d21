//! What is asked of the peer, and what becomes of the blocks that it sends.

use std::time::Duration;

use super::{Conversation, End, Host, Outlet, Piece, Scene};
use crate::assembly::{Assembly, Keep};
use crate::download::Arrival;
use crate::wire::{Block, Message};

/// A peer that snubbed us is asked again after so long.
const SNUB_PAUSE: Duration = Duration::from_secs(30);
/// One that choked us without the fast extension, after so long: all others look again each time (T38).
const CHOKE_PAUSE: Duration = Duration::from_secs(1);

impl<B: Keep> Conversation<B> {
    /// Asks for more, up to what the connection can carry.
    pub fn refill<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &mut Scene<'_, H, O>) -> Result<(), End> {
        if self.choked || !self.interested || scene.now < self.snubbed_until {
            return Ok(());
        }
        let mut blocks = Vec::new();
        while self.download.fill(scene.now, &mut blocks) && !self.starved {
            self.starved = !self.reserve(scene)?;
        }
        if blocks.is_empty() { Ok(()) } else { scene.send(blocks.into_iter().map(Message::Request)) }
    }

    /// Gives all pieces back, half-fetched ones to whoever comes next.
    pub fn give_up_all<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &Scene<'_, H, O>) {
        let pieces: Vec<u32> = self.download.pieces().collect();
        for piece in pieces {
            self.give_up(piece, true, scene);
        }
    }

    /// Takes one more piece; `false` if there is none, or no memory for it now.
    fn reserve<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &mut Scene<'_, H, O>) -> Result<bool, End> {
        let shelved = scene.host.shelved();
        let reserved = scene.host.core().reserve_first(&shelved, self.key, scene.now, &mut scene.rng);
        let Some(reservation) = reserved else { return Ok(false) };
        let piece = reservation.piece;
        let kept = if reservation.again { None } else { scene.host.unshelve(piece) };
        let len = scene.host.len(piece);
        let fresh = || Some(Assembly::new(piece, len, scene.host.buffer(len)?));
        let Some(assembly) = kept.or_else(fresh) else {
            scene.host.core().release(self.key, piece);
            return Ok(false);
        };
        self.download.add(assembly, scene.now);
        if !reservation.again {
            self.ask_for_leaves(piece, scene)?;
        }
        Ok(true)
    }

    pub(super) fn block<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        piece: u32,
        begin: u32,
        data: &[u8],
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        match self.download.arrived(piece, begin, data, scene.now) {
            Arrival::Block => Ok(()),
            Arrival::Proved => {
                scene.host.pass_block(piece, begin);
                Ok(())
            }
            Arrival::Wrong(leaf) => {
                scene.host.wasted(data.len() as u64);
                self.give_up(piece, true, scene);
                self.lied(piece, vec![(self.source, leaf)], scene)
            }
            Arrival::Complete(assembly) => {
                if assembly.is_proved() {
                    scene.host.pass_block(piece, begin);
                }
                self.complete(assembly, scene)
            }
            Arrival::Unwanted => {
                scene.host.wasted(data.len() as u64);
                Ok(())
            }
            Arrival::Flood => Err(End::Violation("blocks that nobody asked for")),
        }
    }

    /// All blocks of a piece are here: they prove themselves, or someone lied.
    fn complete<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        assembly: Piece<H>,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let piece = assembly.piece();
        if scene.host.is_genuine(&assembly, self.source) {
            scene.host.core().handed_over(self.key, piece, &assembly.leaves(), scene.now);
            scene.host.store(assembly);
            self.starved = false;
            return Ok(());
        }
        scene.host.wasted(assembly.received().into());
        let ended = self.lied(piece, assembly.evidence(), scene);
        Self::stop_passing(piece, scene);
        ended
    }

    /// With BEP 6 the peer says what becomes of each request; without it, all that were out are forgotten, and nobody knows for
    /// how long: others go on with the pieces.
    pub(super) fn choked<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &Scene<'_, H, O>) {
        self.choked = true;
        if self.fast {
            return;
        }
        self.download.choked();
        if self.download.pieces().next().is_some() {
            self.give_up_all(scene);
            scene.host.bump();
            self.snubbed_until = self.snubbed_until.max(scene.now + CHOKE_PAUSE);
        }
    }

    pub(super) fn rejected<H: Host<Buffer = B>, O: Outlet>(&mut self, block: Block, scene: &Scene<'_, H, O>) {
        if self.download.rejected(block) {
            self.give_up(block.piece, true, scene);
            scene.host.core().refused(self.key, block.piece, scene.now);
            self.starved = false;
        }
    }

    /// A peer that owes blocks and sends none is left alone for a while (T40).
    pub(super) fn notice_snub<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &Scene<'_, H, O>) {
        if self.download.is_snubbed(scene.now) {
            scene.host.snubbed(self.source);
            self.give_up_all(scene);
            self.snubbed_until = scene.now + SNUB_PAUSE;
            scene.host.bump();
        }
    }

    /// Gives one piece up; `keep` what is there of it for another conversation.
    pub(super) fn give_up<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        piece: u32,
        keep: bool,
        scene: &Scene<'_, H, O>,
    ) {
        let Some((assembly, blocks)) = self.download.give_up(piece) else { return };
        // A peer that does not read is found by the next message that matters.
        let _ = scene.out.send(blocks.into_iter().map(Message::Cancel));
        if keep {
            scene.host.shelve(assembly);
        } else {
            scene.host.wasted(assembly.received().into());
        }
        self.asked_leaves.remove(&piece);
        scene.host.core().release(self.key, piece);
        Self::stop_passing(piece, scene);
    }
}
