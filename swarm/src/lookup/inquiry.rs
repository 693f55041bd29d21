//! What one connection of a lookup says: it asks for `info` and for hashes, and has nothing to give.

use std::time::Duration;

use super::{InquiryId, Lookup, Progress};
use crate::bitfield::Bitfield;
use crate::near::Place;
use crate::wire::metadata::{Metadata, PART};
use crate::wire::{Capabilities, ExtensionHandshake, HashRequest, Message, UT_METADATA};

/// Parts of `info` that one peer is asked for at a time.
const PARTS_OUT: u32 = 16;
/// Hash requests that one peer is asked at a time.
const HASHES_OUT: usize = 8;
/// A peer that has sent nothing of use for so long is left.
const PATIENCE: Duration = Duration::from_secs(20);
/// A peer that rejects is asked again after so long: it may get what it lacks.
const PAUSE: Duration = Duration::from_secs(5);

/// Why an inquiry ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// A message that no correct client sends.
    #[error("the peer sent {0}")]
    Violation(&'static str),
    /// What it sent is not what the link means.
    #[error("the peer sent wrong metadata")]
    WrongInfo,
    /// Hashes that do not lead to the root.
    #[error("the peer sent wrong hashes")]
    WrongHashes,
    /// It answers nothing of use.
    #[error("the peer does not answer")]
    Silent,
    /// It sends `info` so slowly that another is asked instead.
    #[error("the peer is too slow")]
    TooSlow,
    /// It cannot be asked for what is missing: no BEP 9, or under this id no BEP 52.
    #[error("the peer cannot be asked for what is missing")]
    NoUse,
    /// The lookup has an outcome.
    #[error("all is known")]
    Done,
}

impl End {
    /// Whether the peer has lied or spoken nonsense, and is not to be asked again.
    pub fn is_its_fault(self) -> bool {
        matches!(self, Self::Violation(_) | Self::WrongInfo | Self::WrongHashes)
    }
}

/// `info` on its way in.
#[derive(Debug)]
struct Incoming {
    bytes: Vec<u8>,
    here: Bitfield,
    asked: Bitfield,
}

impl Incoming {
    fn new(size: u32) -> Self {
        let parts = size.div_ceil(PART as u32);
        Self { bytes: vec![0; size as usize], here: Bitfield::new(parts), asked: Bitfield::new(parts) }
    }

    /// Parts that are asked for and not there.
    fn out(&self) -> u32 {
        self.asked.count() - self.here.count()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Inquiry {
    id: InquiryId,
    speaks: Capabilities,
    /// Whether the connection is one of the v2 side.
    under_v2: bool,
    said: Option<ExtensionHandshake>,
    incoming: Option<Incoming>,
    hashes_out: Vec<HashRequest>,
    paused_until: Duration,
    last_use: Duration,
}

impl Inquiry {
    /// With a peer that has shaken hands; `under_v2`: with the v2 id.
    pub fn new(id: InquiryId, speaks: Capabilities, under_v2: bool, now: Duration) -> Self {
        Self {
            id,
            speaks,
            under_v2,
            said: None,
            incoming: None,
            hashes_out: Vec::new(),
            paused_until: Duration::ZERO,
            last_use: now,
        }
    }

    /// The first messages. `port`: where we listen.
    pub fn greet(&self, port: Option<u16>, out: &mut Vec<u8>) {
        if self.speaks.extended {
            let payload = ExtensionHandshake::own(port, None, Place::default()).encode();
            Message::Extended { id: 0, payload: &payload }.encode(out);
        }
        if self.speaks.fast {
            Message::HaveNone.encode(out);
        }
    }

    /// A message of the peer.
    pub fn handle(
        &mut self,
        message: Message<'_>,
        lookup: &mut Lookup,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        match message {
            Message::Extended { id: 0, payload } => {
                let said = ExtensionHandshake::decode(payload);
                self.said = Some(said.map_err(|_| End::Violation("a malformed extension handshake"))?);
            }
            Message::Extended { id: UT_METADATA, payload } => self.metadata(payload, lookup, now, out)?,
            Message::Hashes { request, hashes } => self.hashes(request, hashes, lookup, now)?,
            Message::HashReject(request) if self.take_out(&request) => {
                lookup.rejected(self.id, &request);
                self.paused_until = now + PAUSE;
            }
            Message::Request(block) if self.speaks.fast => Message::Reject(block).encode(out),
            Message::HashRequest(request) => Message::HashReject(request).encode(out),
            // What the peer has of the payload matters when the payload is fetched.
            _ => {}
        }
        self.refill(lookup, now, out)
    }

    /// Time has passed: at least once a second.
    pub fn tick(&mut self, lookup: &mut Lookup, now: Duration, out: &mut Vec<u8>) -> Result<(), End> {
        if now.saturating_sub(self.last_use) > PATIENCE {
            return Err(End::Silent);
        }
        self.refill(lookup, now, out)
    }

    fn metadata(
        &mut self,
        payload: &[u8],
        lookup: &mut Lookup,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        match Metadata::decode(payload).map_err(|_| End::Violation("a malformed metadata message"))? {
            Metadata::Data { part, total, data } => self.part(part, total, data, lookup, now),
            Metadata::Reject(_) => {
                self.give_up_info(lookup);
                self.paused_until = now + PAUSE;
                Ok(())
            }
            Metadata::Request(part) => {
                if let Some(id) = self.said.as_ref().and_then(|said| said.ut_metadata) {
                    Message::Extended { id, payload: &Metadata::Reject(part).encode() }.encode(out);
                }
                Ok(())
            }
            Metadata::Unknown => Ok(()),
        }
    }

    /// A part of `info` (T36, T37).
    fn part(
        &mut self,
        part: u32,
        total: u32,
        data: &[u8],
        lookup: &mut Lookup,
        now: Duration,
    ) -> Result<(), End> {
        // One that comes after all is known, or after a rejection.
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        let begin = part as usize * PART;
        let expected = incoming.bytes.len().saturating_sub(begin).min(PART);
        let asked = part < incoming.asked.len() && incoming.asked.contains(part);
        if !asked || total as usize != incoming.bytes.len() || data.len() != expected {
            return Err(End::Violation("a part of the metadata that nobody asked for"));
        }
        incoming.bytes[begin..begin + expected].copy_from_slice(data);
        incoming.here.insert(part);
        self.last_use = now;
        if !incoming.here.is_full() {
            return Ok(());
        }
        let bytes = self.incoming.take().map(|incoming| incoming.bytes).unwrap_or_default();
        if lookup.info_came(self.id, &bytes, now) { Ok(()) } else { Err(End::WrongInfo) }
    }

    fn hashes(
        &mut self,
        request: HashRequest,
        hashes: &[u8],
        lookup: &mut Lookup,
        now: Duration,
    ) -> Result<(), End> {
        if !self.take_out(&request) {
            return Err(End::Violation("hashes that nobody asked for"));
        }
        self.last_use = now;
        if lookup.hashes_came(&request, hashes.as_chunks::<32>().0, now) {
            Ok(())
        } else {
            Err(End::WrongHashes)
        }
    }

    fn take_out(&mut self, request: &HashRequest) -> bool {
        let at = self.hashes_out.iter().position(|out| out == request);
        at.map(|at| self.hashes_out.swap_remove(at)).is_some()
    }

    fn give_up_info(&mut self, lookup: &mut Lookup) {
        self.incoming = None;
        lookup.gone(self.id);
    }

    /// Asks for what is missing, up to what one peer is asked for at a time.
    fn refill(&mut self, lookup: &mut Lookup, now: Duration, out: &mut Vec<u8>) -> Result<(), End> {
        match lookup.progress() {
            Progress::Info => self.ask_for_info(lookup, now, out),
            Progress::Layers { .. } => self.ask_for_hashes(lookup, now, out),
            Progress::Done => Err(End::Done),
        }
    }

    fn ask_for_info(&mut self, lookup: &mut Lookup, now: Duration, out: &mut Vec<u8>) -> Result<(), End> {
        if !self.speaks.extended {
            return Err(End::NoUse);
        }
        let Some(said) = &self.said else { return Ok(()) };
        let id = said.ut_metadata.ok_or(End::NoUse)?;
        // Without a size the peer is looking for it as we are.
        let Some(size) = said.metadata_size else { return Ok(()) };
        if now < self.paused_until || !lookup.may_fetch(self.id, size, now) {
            if self.incoming.is_some() {
                return Err(End::TooSlow);
            }
            // Waiting for a turn is not the peer's silence.
            self.last_use = now.max(self.last_use);
            return Ok(());
        }
        let incoming = self.incoming.get_or_insert_with(|| Incoming::new(size));
        while incoming.out() < PARTS_OUT {
            let next = (0..incoming.asked.len()).find(|part| !incoming.asked.contains(*part));
            let Some(part) = next else { break };
            incoming.asked.insert(part);
            Message::Extended { id, payload: &Metadata::Request(part).encode() }.encode(out);
        }
        Ok(())
    }

    fn ask_for_hashes(&mut self, lookup: &mut Lookup, now: Duration, out: &mut Vec<u8>) -> Result<(), End> {
        self.incoming = None;
        // libtorrent does not set the bit for v2 on a connection that is one already.
        if !self.under_v2 {
            return Err(End::NoUse);
        }
        while self.hashes_out.len() < HASHES_OUT && now >= self.paused_until {
            let Some(request) = lookup.next_request(self.id, now) else { break };
            self.hashes_out.push(request);
            Message::HashRequest(request).encode(out);
        }
        if self.hashes_out.is_empty() && now >= self.paused_until {
            // Others are asked for all that is missing.
            self.last_use = now.max(self.last_use);
        }
        Ok(())
    }
}
