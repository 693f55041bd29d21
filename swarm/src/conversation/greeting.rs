//! What both sides say about themselves.

use super::{Conversation, End, Host, Outlet, Scene};
use crate::assembly::Keep;
use crate::core::TorrentCore;
use crate::wire::{Capabilities, ExtensionHandshake, Message};

impl<B: Keep> Conversation<B> {
    /// The first messages. `port`: where we listen.
    pub fn greet<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        speaks: Capabilities,
        port: Option<u16>,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let have = {
            let mut core = scene.host.core();
            // The bitfield says it all.
            core.catch_up(self.key);
            core.have().clone()
        };
        (self.extended, self.port) = (speaks.extended, port);
        if speaks.extended {
            self.introduce(scene)?;
        }
        match (speaks.fast, have.count()) {
            (true, _) if have.is_full() => scene.send([Message::HaveAll]),
            (true, 0) => scene.send([Message::HaveNone]),
            (false, 0) => Ok(()),
            _ => scene.send([Message::Bitfield(&have.to_wire())]),
        }?;
        self.choke_or_unchoke(scene)
    }

    /// The extension handshake.
    fn introduce<H: Host<Buffer = B>, O: Outlet>(&mut self, scene: &Scene<'_, H, O>) -> Result<(), End> {
        let size = scene.host.info().map(|info| info.len() as u32);
        let (place, sated) = {
            let core = scene.host.core();
            (core.place().clone(), self.is_sated(&core))
        };
        let upload_only = (sated != self.told_sated).then_some(sated);
        self.told_sated = sated;
        let own = ExtensionHandshake::own(self.port, size, place);
        let payload = ExtensionHandshake { upload_only, ..own }.encode();
        scene.send([Message::Extended { id: 0, payload: &payload }])
    }

    /// Whether we want nothing more, and HAVE does not say it (BEP 21). Who was told so once is not told otherwise when the rest comes too.
    pub(super) fn is_sated(&self, core: &TorrentCore) -> bool {
        core.is_complete() && (self.told_sated || !core.is_seed())
    }

    /// Says it when that has changed.
    pub(super) fn say_if_sated<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        sated: bool,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        if self.extended && sated != self.told_sated { self.introduce(scene) } else { Ok(()) }
    }

    /// The extension handshake of the peer.
    pub(super) fn extended<H: Host, O: Outlet>(
        &mut self,
        payload: &[u8],
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let said = ExtensionHandshake::decode(payload)
            .map_err(|_| End::Violation("a malformed extension handshake"))?;
        if let Some(reqq) = said.reqq {
            self.download.set_reqq(reqq as usize);
        }
        self.ut_metadata = said.ut_metadata;
        if !said.is_own() && scene.host.info().is_none() {
            return Err(End::Stranger);
        }
        let has_hashes = {
            let mut core = scene.host.core();
            core.peer_is_own(self.key, said.is_own());
            core.peer_takes(self.key, said.notices);
            core.peer_place(self.key, &said.place);
            said.port.into_iter().for_each(|port| core.peer_listens(self.key, port));
            said.upload_only.into_iter().for_each(|only| core.peer_upload_only(self.key, only));
            core.has_hashes_for(self.key)
        };
        if has_hashes {
            scene.host.bump();
        }
        self.choke_or_unchoke(scene)
    }
}
