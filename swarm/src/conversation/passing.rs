//! Pieces that are passed on while they come in: how they are proved, and what is said about them.

use std::collections::BTreeSet;

use super::{Conversation, End, Host, Outlet, Scene};
use crate::assembly::{Keep, Leaf};
use crate::core::{Peer, Source};
use crate::wire::{HashRequest, Message, PieceNotice, SM_BAD, SM_COMING};

impl<B: Keep> Conversation<B> {
    /// Asks for the leaves of a piece that has just been reserved, if the peer is one of ours and others of ours want it too.
    pub(super) fn ask_for_leaves<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        piece: u32,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let asks = {
            let core = scene.host.core();
            let own = core.peers().get(&self.key).is_some_and(Peer::passes_on);
            own && core.is_sought(piece, self.key)
        };
        if !asks {
            return Ok(());
        }
        let Some(request) = scene.host.leaf_request(piece) else { return Ok(()) };
        self.asked_leaves.insert(piece);
        scene.send([Message::HashRequest(request)])
    }

    /// HASHES: the leaves of a piece in flight, or what nobody asked for.
    pub(super) fn hashes<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        request: &HashRequest,
        hashes: &[u8],
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let is_answer = |piece: &u32| scene.host.leaf_request(*piece).as_ref() == Some(request);
        let Some(piece) = self.asked_leaves.iter().copied().find(is_answer) else { return Ok(()) };
        self.asked_leaves.remove(&piece);
        let leaves = scene
            .host
            .leaves(piece, hashes)
            .ok_or(End::Violation("hashes that are not those of the piece"))?;
        let Some(assembly) = self.download.piece_mut(piece) else { return Ok(()) };
        let wrong = assembly.prove(leaves.clone());
        if !wrong.is_empty() {
            self.give_up(piece, false, scene);
            return self.lied(piece, wrong, scene);
        }
        if scene.host.pass_on(assembly, leaves) {
            scene.host.core().pass_on(self.key, piece);
            scene.host.bump();
        }
        Ok(())
    }

    /// Blocks of a piece are wrong, and it is known which.
    pub(super) fn lied<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        piece: u32,
        evidence: Vec<(Source, Leaf)>,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let doomed = {
            let mut core = scene.host.core();
            core.failed(self.key, piece, evidence);
            core.is_doomed(self.key)
        };
        scene.host.bump();
        if doomed {
            self.reproach(scene);
            return Err(End::BadData);
        }
        Ok(())
    }

    /// Tells one of ours what it has sent that is wrong: it may be its disk, and it looks.
    pub(super) fn reproach<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &Scene<'_, H, O>) {
        let wrong = scene.host.core().reproaches(self.key);
        self.reproached |= !wrong.is_empty();
        for (id, piece) in wrong {
            // It is cut off in any case.
            let _ = scene.out.send([Message::Extended { id, payload: &PieceNotice(piece).encode() }]);
        }
    }

    /// Whether the peer was told so: then it needs a moment to hear it.
    pub fn has_reproached(&self) -> bool {
        self.reproached
    }

    /// Nothing of the piece is served any more, unless another connection passes it on. Who waits for it has to know at once.
    pub(super) fn stop_passing<H: Host<Buffer = B>, O: Outlet>(piece: u32, scene: &Scene<'_, H, O>) {
        if !scene.host.core().is_passed_on(piece) && scene.host.stop_passing(piece) {
            scene.host.bump();
        }
    }

    /// A message about one piece.
    pub(super) fn notice<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        id: u8,
        payload: &[u8],
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let Some(PieceNotice(piece)) = PieceNotice::decode(payload) else {
            return Err(End::Violation("a malformed notice about a piece"));
        };
        if id == SM_BAD {
            if scene.host.core().doubt(self.key, piece, scene.now) {
                scene.host.look_at(piece, self.key);
            }
            return Ok(());
        }
        if id == SM_COMING {
            scene.host.core().peer_coming(self.key, piece)?;
        } else {
            scene.host.core().peer_lost(self.key, piece)?;
            self.give_up(piece, true, scene);
        }
        self.starved = false;
        self.show_interest(scene)
    }

    /// Refuses what is owed of pieces that are not here and do not come any more.
    pub(super) fn retract<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let mut gone: BTreeSet<u32> = scene.out.owed();
        if gone.is_empty() {
            return Ok(());
        }
        {
            let core = scene.host.core();
            gone.retain(|piece| !core.can_serve(*piece));
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.admitted = None;
        scene.out.forgive_pieces(&gone).into_iter().try_for_each(|block| self.refuse(block, scene))
    }
}
