//! The length-prefixed messages of BEP 3, 6, 10 and 52.
//!
//! [`decode`] looks at the header before the body has arrived, so that a frame that no honest peer sends is refused
//! before a byte of it is buffered (T21).

use super::hashes::HashRequest;

/// What peers ask for at a time: BEP 3's block.
pub const BLOCK: u32 = 16 * 1024;
/// The longest REQUEST that is served to a peer that has negotiated nothing (T26).
pub const MAX_REQUEST: u32 = BLOCK;
/// The longest payload of a PIECE message: it answers several requests, of a peer that has said that it takes that (`sm_run`). Whoever sends one, it is read
/// block by block.
pub const MAX_RUN: u32 = 8 * BLOCK;
/// Length prefix, id, piece number and offset of a PIECE message.
pub const PIECE_HEADER: usize = 13;
/// The longest frame of any kind. A bitfield of 2^21 pieces is 256 KiB.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest extension message.
pub const MAX_EXTENDED: usize = 256 * 1024;

/// One block of a piece, as REQUEST, CANCEL and REJECT name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// Piece number.
    pub piece: u32,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Length in bytes.
    pub len: u32,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Nothing; keeps the connection from timing out.
    KeepAlive,
    /// 0: no request will be served.
    Choke,
    /// 1: requests will be served.
    Unchoke,
    /// 2: the sender wants something.
    Interested,
    /// 3: the sender wants nothing.
    NotInterested,
    /// 4: the sender has this piece.
    Have(u32),
    /// 5: the pieces that the sender has.
    Bitfield(&'a [u8]),
    /// 6: asks for a block.
    Request(Block),
    /// 7: a block.
    Piece {
        /// Piece number.
        piece: u32,
        /// Offset in the piece.
        begin: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// 8: takes a request back.
    Cancel(Block),
    /// 9: the sender's DHT port (BEP 5); ignored.
    Port(u16),
    /// 13: a hint which piece to ask for (BEP 6).
    Suggest(u32),
    /// 14: the sender has everything (BEP 6).
    HaveAll,
    /// 15: the sender has nothing (BEP 6).
    HaveNone,
    /// 16: this request will not be answered (BEP 6).
    Reject(Block),
    /// 17: may be asked for while choked (BEP 6).
    AllowedFast(u32),
    /// 20: extension message (BEP 10).
    Extended {
        /// 0 for the handshake, else an id that the receiver has chosen.
        id: u8,
        /// The bencoded (or other) rest.
        payload: &'a [u8],
    },
    /// 21: asks for hashes of a merkle tree (BEP 52).
    HashRequest(HashRequest),
    /// 22: hashes (BEP 52).
    Hashes {
        /// What was asked.
        request: HashRequest,
        /// 32 bytes each.
        hashes: &'a [u8],
    },
    /// 23: the hashes will not be sent (BEP 52).
    HashReject(HashRequest),
    /// A message that we do not know: ignored, as BEP 3 clients do.
    Unknown(u8),
}

/// What the peer sent can come from no correct client; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length prefix is over the limit for this kind of message (T21).
    #[error("message {id} of {len} bytes is longer than allowed")]
    TooLong {
        /// Message id.
        id: u8,
        /// Length prefix.
        len: u32,
    },
    /// The length does not fit the kind of message.
    #[error("message {id} has a wrong length of {len} bytes")]
    WrongLength {
        /// Message id.
        id: u8,
        /// Length prefix.
        len: u32,
    },
}

/// What [`decode`] found at the start of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A message, and how many bytes it took.
    Message(Message<'a>, usize),
    /// The first block of a PIECE message that has more of them, how many bytes are done with, and a header. That is to be written over the bytes behind
    /// these, the end of the block: from there on stands a PIECE message with the rest.
    Block(Message<'a>, usize, [u8; PIECE_HEADER]),
    /// Nothing whole: the buffer must hold so many bytes in all before it is worth asking again.
    Need(usize),
}

/// Reads one message from the start of `buffer`, or one block of a PIECE message.
pub fn decode(buffer: &[u8]) -> Result<Decoded<'_>, WireError> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(Decoded::Need(4));
    };
    let len = u32::from_be_bytes(*prefix);
    if len == 0 {
        return Ok(Decoded::Message(Message::KeepAlive, 4));
    }
    let Some(&id) = buffer.get(4) else {
        // The id is needed to know the limit; without it only the general one holds.
        return if len as usize > MAX_FRAME {
            Err(WireError::TooLong { id: 0, len })
        } else {
            Ok(Decoded::Need(5))
        };
    };
    check_length(id, len)?;
    let end = 4 + len as usize;
    if id == 7 && end > PIECE_HEADER + BLOCK as usize {
        return Ok(first_block(buffer, end));
    }
    match buffer.get(5..end) {
        Some(body) => Ok(Decoded::Message(parse(id, body), end)),
        None => Ok(Decoded::Need(end)),
    }
}

/// Reads the first block of a PIECE message of `end` bytes that has more than one.
fn first_block(buffer: &[u8], end: usize) -> Decoded<'_> {
    let until = PIECE_HEADER + BLOCK as usize;
    let Some(body) = buffer.get(5..until) else { return Decoded::Need(until) };
    let (piece, begin) = (word(body, 0), word(body, 4));
    // An offset that wraps is that of no block that was asked for.
    let rest = piece_header(piece, begin.wrapping_add(BLOCK), (end - until) as u32);
    Decoded::Block(parse(7, body), BLOCK as usize, rest)
}

/// Refuses lengths that the kind of message cannot have.
fn check_length(id: u8, len: u32) -> Result<(), WireError> {
    let body = len as usize - 1;
    let fits = match id {
        0..=3 | 14 | 15 => body == 0,
        4 | 13 | 17 => body == 4,
        6 | 8 | 16 => body == 12,
        7 => (8..=8 + MAX_RUN as usize).contains(&body),
        9 => body == 2,
        20 => (1..=MAX_EXTENDED).contains(&body),
        21 | 23 => body == HashRequest::LEN,
        22 => body >= HashRequest::LEN && (body - HashRequest::LEN).is_multiple_of(32),
        _ => true,
    };
    if len as usize > MAX_FRAME || (id == 7 && body > 8 + MAX_RUN as usize) {
        return Err(WireError::TooLong { id, len });
    }
    if fits { Ok(()) } else { Err(WireError::WrongLength { id, len }) }
}

/// Reads a body whose length [`check_length`] has accepted.
fn parse(id: u8, body: &[u8]) -> Message<'_> {
    match id {
        0 => Message::Choke,
        1 => Message::Unchoke,
        2 => Message::Interested,
        3 => Message::NotInterested,
        4 => Message::Have(word(body, 0)),
        5 => Message::Bitfield(body),
        6 => Message::Request(block(body)),
        7 => Message::Piece { piece: word(body, 0), begin: word(body, 4), data: &body[8..] },
        8 => Message::Cancel(block(body)),
        9 => Message::Port(u16::from_be_bytes([body[0], body[1]])),
        13 => Message::Suggest(word(body, 0)),
        14 => Message::HaveAll,
        15 => Message::HaveNone,
        16 => Message::Reject(block(body)),
        17 => Message::AllowedFast(word(body, 0)),
        20 => Message::Extended { id: body[0], payload: &body[1..] },
        21 => Message::HashRequest(HashRequest::decode(body)),
        22 => Message::Hashes { request: HashRequest::decode(body), hashes: &body[HashRequest::LEN..] },
        23 => Message::HashReject(HashRequest::decode(body)),
        other => Message::Unknown(other),
    }
}

/// The big-endian word at `at` of a body long enough.
pub(super) fn word(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
}

fn block(body: &[u8]) -> Block {
    Block { piece: word(body, 0), begin: word(body, 4), len: word(body, 8) }
}

impl Message<'_> {
    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.encode_body(out);
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match *self {
            Message::KeepAlive => {}
            Message::Choke => out.push(0),
            Message::Unchoke => out.push(1),
            Message::Interested => out.push(2),
            Message::NotInterested => out.push(3),
            Message::Have(piece) => tagged(out, 4, &[piece]),
            Message::Bitfield(bits) => {
                out.push(5);
                out.extend_from_slice(bits);
            }
            Message::Request(b) => tagged(out, 6, &[b.piece, b.begin, b.len]),
            Message::Piece { piece, begin, data } => {
                tagged(out, 7, &[piece, begin]);
                out.extend_from_slice(data);
            }
            Message::Cancel(b) => tagged(out, 8, &[b.piece, b.begin, b.len]),
            Message::Port(port) => {
                out.push(9);
                out.extend_from_slice(&port.to_be_bytes());
            }
            Message::Suggest(piece) => tagged(out, 13, &[piece]),
            Message::HaveAll => out.push(14),
            Message::HaveNone => out.push(15),
            Message::Reject(b) => tagged(out, 16, &[b.piece, b.begin, b.len]),
            Message::AllowedFast(piece) => tagged(out, 17, &[piece]),
            Message::Extended { id, payload } => {
                out.extend_from_slice(&[20, id]);
                out.extend_from_slice(payload);
            }
            Message::HashRequest(request) => request.encode(21, out),
            Message::Hashes { request, hashes } => {
                request.encode(22, out);
                out.extend_from_slice(hashes);
            }
            Message::HashReject(request) => request.encode(23, out),
            Message::Unknown(id) => out.push(id),
        }
    }
}

/// The bytes before the data of a PIECE message, for drivers that write the data from elsewhere.
pub fn piece_header(piece: u32, begin: u32, len: u32) -> [u8; PIECE_HEADER] {
    let mut header = [0; PIECE_HEADER];
    header[..4].copy_from_slice(&(len + 9).to_be_bytes());
    header[4] = 7;
    header[5..9].copy_from_slice(&piece.to_be_bytes());
    header[9..].copy_from_slice(&begin.to_be_bytes());
    header
}

fn tagged(out: &mut Vec<u8>, id: u8, words: &[u32]) {
    out.push(id);
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
