//! Whatever a peer says, in whatever parts: only genuine pieces are stored, nothing is asked for or owed that lies outside the torrent,
//! each request and each hash request gets its answer, and when the connection is gone nothing is reserved.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use swarm::conversation::{Conversation, End, Scene};
use swarm::core::PeerKey;
use swarm::wire::{Capabilities, Decoded, Message, decode};
use swarm_fuzz::{Bytes, Torrent, Way, peer};

/// The longest chunk: a block needs few of them.
const LONG: usize = 4096;

// The first byte says what both sides speak and what we have; then each chunk has its length and the time before it in front.
fuzz_target!(|bytes: &[u8]| {
    let Some((&shape, mut rest)) = bytes.split_first() else { return };
    let mut talk = Talk::begin(shape);
    let mut buffer = Vec::new();
    while let Some((&[len, pause], more)) = rest.split_first_chunk::<2>() {
        let (chunk, more) = more.split_at(more.len().min(if len == u8::MAX { LONG } else { len.into() }));
        rest = more;
        talk.now += Duration::from_millis(u64::from(pause) * u64::from(pause));
        buffer.extend_from_slice(chunk);
        if !talk.hear(&mut buffer) {
            break;
        }
    }
    talk.end();
});

struct Talk {
    torrent: Torrent,
    way: Way,
    key: PeerKey,
    fast: bool,
    talk: Conversation<Bytes>,
    now: Duration,
    rng: SmallRng,
}

impl Talk {
    fn begin(shape: u8) -> Self {
        let torrent = Torrent::new(shape & 3);
        let (key, _) = torrent.core.borrow_mut().connected(peer(), Duration::ZERO).expect("there is room");
        let (fast, source) = (shape & 4 != 0, torrent.core.borrow().peers()[&key].source);
        let talk = Conversation::new(key, source, fast, Duration::ZERO);
        let (way, rng) = (Way::default(), SmallRng::seed_from_u64(shape.into()));
        let mut this = Self { torrent, way, key, fast, talk, now: Duration::ZERO, rng };
        let speaks = Capabilities { fast, extended: shape & 8 != 0, v2: true };
        let greeted = this.step(|talk, scene| talk.greet(speaks, Some(6881), scene));
        assert_eq!(greeted, Ok(()));
        this
    }

    /// One read of the socket; `false` if that was the last.
    fn hear(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.talk.heard(self.now);
        let mut used = 0;
        loop {
            let (message, len, rest) = match decode(&buffer[used..]) {
                Ok(Decoded::Message(message, len)) => (message, len, None),
                Ok(Decoded::Block(message, len, rest)) => (message, len, Some(rest)),
                _ => break,
            };
            used += len;
            if self.handle(message).is_err() {
                return false;
            }
            if let Some(rest) = rest {
                buffer[used..used + rest.len()].copy_from_slice(&rest);
            }
        }
        if decode(&buffer[used..]).is_err() {
            return false;
        }
        buffer.drain(..used);
        self.torrent.write_what_came();
        let ticked = self.step(Conversation::tick);
        ticked.is_ok() && self.step(Conversation::refill).is_ok()
    }

    fn handle(&mut self, message: Message<'_>) -> Result<(), End> {
        let before = self.way.answers.get();
        let result = self.step(|talk, scene| talk.handle(message, scene));
        let answered = self.way.answers.get() - before;
        match (message, &result) {
            // Without BEP 6 a request that is refused is forgotten.
            (Message::Request(block), Ok(())) if answered == 1 => {
                let have = self.torrent.core.borrow().have().contains(block.piece);
                assert!(have || !self.way.owes(block), "{block:?} is not here");
            }
            (Message::Request(_), Ok(())) => assert!(!self.fast && answered == 0, "{answered} answers"),
            (Message::HashRequest(request), Ok(())) => assert!(request.is_sane() && answered == 1),
            (Message::HashRequest(request), Err(_)) => assert!(!request.is_sane()),
            _ => {}
        }
        result
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut Conversation<Bytes>, &mut Scene<'_, Torrent, Way>) -> Result<(), End>,
    ) -> Result<(), End> {
        let mut scene = Scene { host: &self.torrent, out: &self.way, now: self.now, rng: &mut self.rng };
        step(&mut self.talk, &mut scene)
    }

    fn end(mut self) {
        let gave_up = self.step(|talk, scene| {
            talk.give_up_all(scene);
            Ok(())
        });
        assert_eq!(gave_up, Ok(()));
        self.torrent.core.borrow_mut().disconnected(self.key);
        self.torrent.write_what_came();
        assert_eq!(self.torrent.core.borrow().picker().reserved(), 0);
    }
}
