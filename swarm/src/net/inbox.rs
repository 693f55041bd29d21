//! What has come from a socket and is not yet read as messages.

use crate::wire::{self, Decoded, Message, WireError};

/// The buffer of one connection. It grows to the longest frame that [`wire::decode`] lets through.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    filled: usize,
}

impl Inbox {
    /// With room for so many bytes at a time.
    pub fn new(room: usize) -> Self {
        Self { buffer: vec![0; room], filled: 0 }
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// So many bytes have come.
    pub fn came(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Handles all whole messages, until one ends it.
    pub fn each<E: From<WireError>>(
        &mut self,
        mut handle: impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut used = 0;
        let needed = loop {
            match wire::decode(&self.buffer[used..self.filled])? {
                Decoded::Message(message, len) => {
                    used += len;
                    handle(message)?;
                }
                Decoded::Need(bytes) => break bytes,
            }
        };
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        let long = vec![7; 50];
        for message in [Message::Have(1), Message::Bitfield(&long), Message::Unchoke] {
            message.encode(&mut bytes);
        }
        let mut inbox = Inbox::new(8);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let room = inbox.room();
            let part = rest.len().min(room.len()).min(5);
            room[..part].copy_from_slice(&rest[..part]);
            rest = &rest[part..];
            inbox.came(part);
            let handle = |message: Message<'_>| {
                seen.push(format!("{message:?}").chars().take(8).collect::<String>());
                Ok::<_, WireError>(())
            };
            inbox.each(handle).unwrap();
        }
        assert_eq!(seen, ["Have(1)", "Bitfield", "Unchoke"]);
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
