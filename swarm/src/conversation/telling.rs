//! What a peer is told of the torrent itself, if it has only a magnet link or lacks hashes.

use super::{Conversation, End, Host, Outlet, Scene};
use crate::assembly::Keep;
use crate::hashes::Answer;
use crate::wire::metadata::{Metadata, PART, part};
use crate::wire::{HashRequest, Message};

/// One peer is sent the whole of `info` so often: it may have lost what it had, and asks for nothing without end.
const TELLINGS: u32 = 3;

impl<B: Keep> Conversation<B> {
    /// A message of BEP 9.
    pub(super) fn metadata<H: Host, O: Outlet>(
        &mut self,
        payload: &[u8],
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        let message =
            Metadata::decode(payload).map_err(|_| End::Violation("a malformed metadata message"))?;
        // What nobody asked for is of no use, and a request of who takes no answer cannot be answered.
        let (Metadata::Request(wanted), Some(id)) = (message, self.ut_metadata) else { return Ok(()) };
        let info = scene.host.info();
        let answer = match info.as_deref().and_then(|info| Some((info.len(), part(info, wanted)?))) {
            Some((total, data)) if self.told < TELLINGS * total.div_ceil(PART) as u32 => {
                self.told += 1;
                Metadata::Data { part: wanted, total: total as u32, data }
            }
            _ => Metadata::Reject(wanted),
        };
        scene.send([Message::Extended { id, payload: &answer.encode() }])
    }

    /// Signed hashes of a torrent that grows. Each of our own verifies what it passes on, so that bad ones are the peer's fault.
    pub(super) fn learn<H: Host<Buffer = B>, O: Outlet>(
        &mut self,
        batch: &[u8],
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        if scene.host.take_hashes(batch, self.key) {
            self.starved = false;
            Ok(())
        } else {
            Err(End::Violation("hashes that nobody vouches for"))
        }
    }

    /// A hash request of BEP 52. What costs reading a piece is for those whom we serve.
    pub(super) fn hash_request<H: Host, O: Outlet>(
        &self,
        request: HashRequest,
        scene: &Scene<'_, H, O>,
    ) -> Result<(), End> {
        if !request.is_sane() {
            return Err(End::Violation("a senseless hash request"));
        }
        match scene.host.hashes(&request) {
            Answer::Hashes(hashes) => {
                scene.send([Message::Hashes { request, hashes: hashes.as_flattened() }])
            }
            Answer::OfPiece(piece) if !self.choking && scene.out.owe_hashes(request, piece) => Ok(()),
            Answer::OfPiece(_) | Answer::Reject => scene.send([Message::HashReject(request)]),
        }
    }
}
