//! What siblings send each other, as bytes. Pure.
//!
//! A frame is its length (4 bytes, of what follows), its kind (1 byte) and what that kind says. Numbers are big-endian.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use torrent::WireId;

use crate::directory::{At, Digest, SHARDS};
use crate::peer::Peer;
use crate::tick::Tick;

/// The longest frame that is taken, bytes. Ours are about 64 KiB.
pub const MAX_FRAME: usize = 1 << 20;
/// A frame of swarms is closed when it has so many bytes.
const FULL: usize = 64 << 10;
/// The longest name of a node: a DNS subdomain.
const MAX_NODE: usize = 253;
/// Revisions of one stored thing.
const MAX_REVISIONS: usize = 256;

/// Why bytes are no frame. The stream is given up then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes, at most {MAX_FRAME} are taken")]
    TooLong(usize),
    /// A kind that this version does not know.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// It ends before what it says is complete, or goes on after.
    #[error("a frame that does not end where it should")]
    End,
    /// A value that this version does not know.
    #[error("a frame with an impossible {0}")]
    Value(&'static str),
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first of a publisher.
    Hello {
        /// Names its start.
        epoch: u64,
        /// What its clock says.
        now: Tick,
        /// Whether it knows what its siblings knew when it started, or has waited long enough for one.
        ready: bool,
    },
    /// A subscriber's: what it knows. It gets what differs.
    Have(Box<Have>),
    /// The digest of the publisher's registry.
    Registry([u8; 32]),
    /// Peers.
    Swarms(Vec<Told>),
    /// Metainfo and manifests that lie at the publisher.
    Stored(Vec<Stored>),
    /// What differed has been sent.
    Current,
    /// Nothing to say but what the clock says: over weeks two clocks drift apart.
    Alive(Tick),
}

/// What a subscriber knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// Of what is stored.
    pub stored: u64,
    /// Of the swarms.
    pub swarms: Digest,
}

/// What a publisher says of one swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// One of its names.
    pub name: WireId,
    /// How often somebody became complete.
    pub downloaded: u32,
    /// Some of its peers.
    pub words: Vec<Word>,
}

/// What a publisher says of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where it is.
    pub at: At,
    /// What is known of it, by the publisher's clock.
    pub peer: Peer<()>,
    /// Whether it has just become complete.
    pub completed: bool,
}

/// Something that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub kind: StoredKind,
    /// Its infohash or digest, hexadecimal.
    pub name: String,
    /// SHA-256 of its bytes. What stands beside `info` is not in an infohash: of two files for one torrent the larger digest counts.
    pub digest: [u8; 32],
    /// Its bytes.
    pub bytes: u64,
    /// The revisions that it was stored for.
    pub revisions: Vec<String>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredKind {
    /// Metainfo of a torrent.
    Metainfo,
    /// A content manifest.
    Manifest,
}

mod kind {
    pub const HELLO: u8 = 1;
    pub const HAVE: u8 = 2;
    pub const REGISTRY: u8 = 3;
    pub const SWARMS: u8 = 4;
    pub const STORED: u8 = 5;
    pub const CURRENT: u8 = 6;
    pub const ALIVE: u8 = 7;
}

/// Bits of the first byte of a word: where the peer is, and whether it has just become complete.
const V4: u8 = 0;
const V6: u8 = 1;
const NODE: u8 = 2;
const COMPLETED: u8 = 4;

impl Frame {
    /// As it goes over the wire. Swarms are written by [`Swarms`].
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let kind = match self {
            Frame::Hello { epoch, now, ready } => {
                body.put_u64(*epoch);
                body.put_u32(now.0);
                body.put_u8(u8::from(*ready));
                kind::HELLO
            }
            Frame::Have(have) => {
                body.put_u64(have.stored);
                have.swarms.0.iter().for_each(|&part| body.put_u64(part));
                kind::HAVE
            }
            Frame::Registry(digest) => {
                body.put_slice(digest);
                kind::REGISTRY
            }
            Frame::Swarms(told) => {
                for told in told {
                    put_told(&mut body, told);
                }
                kind::SWARMS
            }
            Frame::Stored(stored) => {
                for stored in stored {
                    put_stored(&mut body, stored);
                }
                kind::STORED
            }
            Frame::Current => kind::CURRENT,
            Frame::Alive(now) => {
                body.put_u32(now.0);
                kind::ALIVE
            }
        };
        framed(kind, &body)
    }

    /// Takes the first frame out of what has come; none while it is not complete.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn take(come: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(length) = come.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        if come.len() < 4 + length {
            return Ok(None);
        }
        come.advance(4);
        let mut body = come.split_to(length).freeze();
        let kind = byte(&mut body)?;
        let frame = decode(kind, &mut body)?;
        if body.is_empty() { Ok(Some(frame)) } else { Err(FrameError::End) }
    }
}

fn framed(kind: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + body.len());
    frame.put_u32(1 + body.len() as u32);
    frame.put_u8(kind);
    frame.put_slice(body);
    frame.freeze()
}

fn decode(kind: u8, body: &mut Bytes) -> Result<Frame, FrameError> {
    Ok(match kind {
        kind::HELLO => Frame::Hello {
            epoch: long(body)?,
            now: Tick(int(body)?),
            ready: match byte(body)? {
                0 => false,
                1 => true,
                _ => return Err(FrameError::Value("readiness")),
            },
        },
        kind::HAVE => {
            let stored = long(body)?;
            let mut swarms = Digest::default();
            for part in &mut swarms.0[..SHARDS] {
                *part = long(body)?;
            }
            Frame::Have(Box::new(Have { stored, swarms }))
        }
        kind::REGISTRY => Frame::Registry(array(body)?),
        kind::SWARMS => Frame::Swarms(many(body, told)?),
        kind::STORED => Frame::Stored(many(body, stored)?),
        kind::CURRENT => Frame::Current,
        kind::ALIVE => Frame::Alive(Tick(int(body)?)),
        kind => return Err(FrameError::Kind(kind)),
    })
}

/// Writes stored things into as many frames as it takes.
pub fn stored_frames(all: &[Stored]) -> Vec<Bytes> {
    let (mut frames, mut body) = (Vec::new(), BytesMut::new());
    for stored in all {
        put_stored(&mut body, stored);
        // One is at most some 65 KiB, so a frame is far below the longest.
        if body.len() >= FULL {
            frames.push(framed(kind::STORED, &body));
            body.clear();
        }
    }
    if !body.is_empty() {
        frames.push(framed(kind::STORED, &body));
    }
    frames
}

/// Writes swarms into as many frames as it takes.
#[derive(Debug, Default)]
pub struct Swarms {
    frames: Vec<Bytes>,
    body: BytesMut,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    name: WireId,
    downloaded: u32,
    /// Where its head begins.
    at: usize,
    words: u16,
}

/// Bytes of a swarm's name and `downloaded`, behind which the number of its words stands.
const HEAD: usize = 24;

impl Swarms {
    /// The words that follow are of peers of this swarm.
    pub fn open(&mut self, name: WireId, downloaded: u32) {
        if self.open.is_some_and(|open| open.name == name && open.words < u16::MAX) {
            return;
        }
        self.close();
        if self.body.len() >= FULL {
            self.finish_frame();
        }
        self.open = Some(Open { name, downloaded, at: self.body.len(), words: 0 });
        self.body.put_slice(&name.0);
        self.body.put_u32(downloaded);
        self.body.put_u16(0);
    }

    /// Adds a peer to the swarm that was opened last.
    pub fn push(&mut self, word: &Word) {
        let Some(open) = self.open else { return };
        if self.body.len() >= FULL || open.words == u16::MAX {
            self.close();
            self.finish_frame();
            self.open(open.name, open.downloaded);
        }
        if let Some(open) = &mut self.open {
            open.words += 1;
            put_word(&mut self.body, word);
        }
    }

    /// The frames.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.finish_frame();
        self.frames
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.words == 0 && open.downloaded == 0 {
            // There was nothing to say.
            self.body.truncate(open.at);
        } else {
            let count = open.at + HEAD;
            self.body[count..count + 2].copy_from_slice(&open.words.to_be_bytes());
        }
    }

    fn finish_frame(&mut self) {
        if !self.body.is_empty() {
            self.frames.push(framed(kind::SWARMS, &self.body));
            self.body.clear();
        }
    }
}

fn put_told(body: &mut BytesMut, told: &Told) {
    body.put_slice(&told.name.0);
    body.put_u32(told.downloaded);
    body.put_u16(told.words.len() as u16);
    told.words.iter().for_each(|word| put_word(body, word));
}

fn put_word(body: &mut BytesMut, word: &Word) {
    let completed = if word.completed { COMPLETED } else { 0 };
    let (flags, left, kept) = word.peer.packed();
    let kind = match &word.at {
        At::V4(_) => V4,
        At::V6(_) => V6,
        At::Node(_) => NODE,
    };
    body.put_u8(kind | completed);
    body.put_u8(flags);
    body.put_u8(kept);
    body.put_u16(word.peer.port);
    body.put_u32(word.peer.seen.0);
    body.put_u32(left);
    match &word.at {
        At::V4(address) => body.put_slice(&address.octets()),
        At::V6(address) => body.put_slice(&address.octets()),
        At::Node(name) => put_text(body, name),
    }
}

fn put_stored(body: &mut BytesMut, stored: &Stored) {
    body.put_u8(match stored.kind {
        StoredKind::Metainfo => 0,
        StoredKind::Manifest => 1,
    });
    put_text(body, &stored.name);
    body.put_slice(&stored.digest);
    body.put_u64(stored.bytes);
    let revisions = &stored.revisions[..stored.revisions.len().min(MAX_REVISIONS)];
    body.put_u16(revisions.len() as u16);
    for revision in revisions {
        put_text(body, revision);
    }
}

/// Names of nodes, revisions and digests have at most 253 bytes; what is longer is none.
fn put_text(body: &mut BytesMut, text: &str) {
    let text = if text.len() <= MAX_NODE { text } else { "" };
    body.put_u8(text.len() as u8);
    body.put_slice(text.as_bytes());
}

fn many<T>(
    body: &mut Bytes,
    one: impl Fn(&mut Bytes) -> Result<T, FrameError>,
) -> Result<Vec<T>, FrameError> {
    let mut all = Vec::new();
    while !body.is_empty() {
        all.push(one(body)?);
    }
    Ok(all)
}

fn told(body: &mut Bytes) -> Result<Told, FrameError> {
    let (name, downloaded, count) = (WireId(array(body)?), int(body)?, short(body)?);
    let words = (0..count).map(|_| word(body)).collect::<Result<_, _>>()?;
    Ok(Told { name, downloaded, words })
}

fn word(body: &mut Bytes) -> Result<Word, FrameError> {
    let first = byte(body)?;
    let (flags, kept, port) = (byte(body)?, byte(body)?, short(body)?);
    let (seen, left) = (Tick(int(body)?), int(body)?);
    let at = match first & !COMPLETED {
        V4 => At::V4(Ipv4Addr::from(array(body)?)),
        V6 => At::V6(Ipv6Addr::from(array(body)?)),
        NODE => At::Node(text(body)?.into()),
        _ => return Err(FrameError::Value("kind of peer")),
    };
    let peer = Peer::unpack(port, seen, (flags, left, kept)).ok_or(FrameError::Value("state of a peer"))?;
    Ok(Word { at, peer, completed: first & COMPLETED != 0 })
}

fn stored(body: &mut Bytes) -> Result<Stored, FrameError> {
    let kind = match byte(body)? {
        0 => StoredKind::Metainfo,
        1 => StoredKind::Manifest,
        _ => return Err(FrameError::Value("kind of stored thing")),
    };
    let name = text(body)?;
    let (digest, bytes, count) = (array(body)?, long(body)?, usize::from(short(body)?));
    if count > MAX_REVISIONS {
        return Err(FrameError::Value("number of revisions"));
    }
    let revisions = (0..count).map(|_| text(body)).collect::<Result<_, _>>()?;
    Ok(Stored { kind, name, digest, bytes, revisions })
}

fn text(body: &mut Bytes) -> Result<String, FrameError> {
    let length = usize::from(byte(body)?);
    if length > MAX_NODE {
        return Err(FrameError::Value("length of a name"));
    }
    if body.len() < length {
        return Err(FrameError::End);
    }
    String::from_utf8(body.split_to(length).to_vec()).map_err(|_| FrameError::Value("name"))
}

fn array<const N: usize>(body: &mut Bytes) -> Result<[u8; N], FrameError> {
    let array = *body.first_chunk::<N>().ok_or(FrameError::End)?;
    body.advance(N);
    Ok(array)
}

fn byte(body: &mut Bytes) -> Result<u8, FrameError> {
    array(body).map(u8::from_be_bytes)
}

fn short(body: &mut Bytes) -> Result<u16, FrameError> {
    array(body).map(u16::from_be_bytes)
}

fn int(body: &mut Bytes) -> Result<u32, FrameError> {
    array(body).map(u32::from_be_bytes)
}

fn long(body: &mut Bytes) -> Result<u64, FrameError> {
    array(body).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
