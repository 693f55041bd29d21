//! What the peer asks of us: checked, admitted, left for the writer.

use std::time::Duration;

use super::{Conversation, End, Host, Outlet, Scene};
use crate::assembly::Keep;
use crate::core::Admission;
use crate::upload::UploadQueue;
use crate::wire::{Block, Message};

/// An admitted piece is served so long before the torrent is asked again.
const ADMITTED_FOR: Duration = Duration::from_secs(1);

impl<B: Keep> Conversation<B> {
    /// REQUEST: queued, refused, or the end.
    pub(super) fn request<H: Host, O: Outlet>(
        &mut self,
        block: Block,
        scene: &mut Scene<'_, H, O>,
    ) -> Result<(), End> {
        UploadQueue::check(block, scene.host.padded_len(block.piece))?;
        if self.choking {
            return self.refuse(block, scene);
        }
        match self.admit(block.piece, scene) {
            Admission::Serve if scene.out.owe(block) => Ok(()),
            Admission::Serve | Admission::Reject => self.refuse(block, scene),
            Admission::Redirect(other) => {
                self.refuse(block, scene)?;
                scene.send([Message::Suggest(other)])
            }
        }
    }

    /// Whether to serve a piece: asked of the torrent once per piece, not per block.
    fn admit<H: Host, O: Outlet>(&mut self, piece: u32, scene: &mut Scene<'_, H, O>) -> Admission {
        let fresh = |since: Duration| scene.now.saturating_sub(since) < ADMITTED_FOR;
        if self.admitted.is_some_and(|(admitted, since)| admitted == piece && fresh(since)) {
            return Admission::Serve;
        }
        let admission = scene.host.core().admit(self.key, piece, scene.now, &mut scene.rng);
        if admission == Admission::Serve {
            self.admitted = Some((piece, scene.now));
            scene.host.gives(piece);
        }
        admission
    }

    /// Says no, where the peer understands it (BEP 6); else its request is forgotten, as BEP 3 has it.
    pub(super) fn refuse<H, O: Outlet>(&self, block: Block, scene: &Scene<'_, H, O>) -> Result<(), End> {
        if self.fast { scene.send([Message::Reject(block)]) } else { Ok(()) }
    }

    /// Tells the peer whether it is served, when that has changed. What it is owed when it is choked it is not sent (BEP 3, 6).
    pub(super) fn choke_or_unchoke<H: Host, O: Outlet>(
        &mut self,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let chokes = scene.host.core().chokes(self.key);
        if chokes == self.choking {
            return Ok(());
        }
        self.choking = chokes;
        if !chokes {
            return scene.send([Message::Unchoke]);
        }
        self.admitted = None;
        let owed = scene.out.forgive_all();
        scene.send([Message::Choke])?;
        owed.into_iter().try_for_each(|block| self.refuse(block, scene))
    }

    /// CANCEL. Who takes a block back goes on with its piece elsewhere.
    pub(super) fn cancel<H: Host, O: Outlet>(
        &mut self,
        block: Block,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        self.admitted.take_if(|(piece, _)| *piece == block.piece);
        scene.host.core().takes_no_more(self.key, block.piece);
        if scene.out.forgive(block) { self.refuse(block, scene) } else { Ok(()) }
    }
}
