//! What has come from a socket and is not yet read as messages.

use crate::wire::{self, Decoded, Message, WireError};

/// Room for what is read at a time of a connection at which little happens.
const LEAST: usize = 4 << 10;
/// A room that was filled grows so many times.
const GROWTH: usize = 4;
/// Looks in a row at which nothing had come, until the room is small again.
const QUIET: u32 = 10;

/// The buffer of one connection. It grows with what comes, and to the longest frame that [`wire::decode`] lets through: of thousands of
/// connections most are silent.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    filled: usize,
    /// What is read at a time at most.
    most: usize,
    /// See [`QUIET`].
    quiet: u32,
}

impl Inbox {
    /// With room for so many bytes at a time at most.
    pub fn new(most: usize) -> Self {
        Self { buffer: vec![0; most.min(LEAST)], filled: 0, most, quiet: 0 }
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// So many bytes have come.
    pub fn came(&mut self, bytes: usize) {
        (self.filled, self.quiet) = (self.filled + bytes, 0);
    }

    /// Time passes: when nothing has come for long, the memory goes.
    pub fn look(&mut self) {
        self.quiet += 1;
        if self.quiet >= QUIET && self.filled == 0 && self.buffer.len() > LEAST {
            self.buffer = vec![0; self.most.min(LEAST)];
        }
    }

    /// Handles all whole messages, and all whole blocks, until one ends it.
    pub fn each<E: From<WireError>>(
        &mut self,
        mut handle: impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut used, is_full) = (0, self.filled == self.buffer.len());
        let needed = loop {
            match wire::decode(&self.buffer[used..self.filled])? {
                Decoded::Message(message, len) => {
                    used += len;
                    handle(message)?;
                }
                Decoded::Block(message, len, rest) => {
                    used += len;
                    handle(message)?;
                    self.buffer[used..used + rest.len()].copy_from_slice(&rest);
                }
                Decoded::Need(bytes) => break bytes,
            }
        };
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        let grown = if is_full { (self.buffer.len() * GROWTH).min(self.most) } else { 0 };
        if self.buffer.len() < needed.max(grown) {
            self.buffer.resize(needed.max(grown), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::BLOCK;

    /// Bytes come in parts of at most so many; each message that they make is handled.
    fn feed(inbox: &mut Inbox, mut bytes: &[u8], part: usize, mut handle: impl FnMut(Message<'_>)) {
        while !bytes.is_empty() {
            let room = inbox.room();
            let part = bytes.len().min(room.len()).min(part);
            room[..part].copy_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            inbox.came(part);
            let each = |message: Message<'_>| {
                handle(message);
                Ok::<_, WireError>(())
            };
            inbox.each(each).unwrap();
        }
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        let long = vec![7; 50];
        for message in [Message::Have(1), Message::Bitfield(&long), Message::Unchoke] {
            message.encode(&mut bytes);
        }
        feed(&mut Inbox::new(8), &bytes, 5, |message| {
            seen.push(format!("{message:?}").chars().take(8).collect::<String>());
        });
        assert_eq!(seen, ["Have(1)", "Bitfield", "Unchoke"]);
    }

    #[test]
    fn a_run_comes_block_by_block_and_needs_no_more_room_than_a_block() {
        let data: Vec<u8> = (0..2 * BLOCK + 100).map(|at| (at % 251) as u8).collect();
        let mut bytes = Vec::new();
        Message::Piece { piece: 3, begin: 5 * BLOCK, data: &data }.encode(&mut bytes);
        Message::Have(9).encode(&mut bytes);
        let (mut inbox, mut seen) = (Inbox::new(8), Vec::new());
        feed(&mut inbox, &bytes, 1000, |message| match message {
            Message::Piece { piece, begin, data } => seen.push((piece, begin, data.to_vec())),
            other => assert_eq!(other, Message::Have(9)),
        });
        let blocks = data.chunks(BLOCK as usize).zip(5..).map(|(block, at)| (3, at * BLOCK, block.to_vec()));
        assert!(seen.into_iter().eq(blocks));
        assert_eq!(
            inbox.buffer.len(),
            wire::PIECE_HEADER + BLOCK as usize,
            "it grows and does not shrink at once"
        );
    }

    #[test]
    fn the_room_grows_with_what_comes_and_goes_when_nothing_does() {
        let mut inbox = Inbox::new(10 * LEAST);
        let come = |inbox: &mut Inbox, bytes: usize| {
            // Zeros are messages that keep alive.
            inbox.room()[..bytes].fill(0);
            inbox.came(bytes);
            inbox.each(|_| Ok::<_, WireError>(())).unwrap();
            inbox.room().len()
        };
        assert_eq!(come(&mut inbox, LEAST / 2), LEAST);
        assert_eq!(come(&mut inbox, LEAST), 4 * LEAST);
        assert_eq!(come(&mut inbox, 4 * LEAST), 10 * LEAST);
        assert_eq!(come(&mut inbox, 10 * LEAST), 10 * LEAST);
        (1..QUIET).for_each(|_| inbox.look());
        assert_eq!(inbox.room().len(), 10 * LEAST);
        inbox.look();
        assert_eq!(inbox.room().len(), LEAST);
    }

    #[test]
    fn t021_a_frame_that_is_too_long_is_refused_before_it_is_buffered() {
        let mut inbox = Inbox::new(8);
        inbox.room()[..5].copy_from_slice(&[0xff; 5]);
        inbox.came(5);
        assert!(inbox.each(|_| Ok::<_, WireError>(())).is_err());
        assert_eq!(inbox.buffer.len(), 8);
    }
}
