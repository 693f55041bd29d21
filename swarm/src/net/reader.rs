//! The reading half of a connection: bytes from the socket, messages to the conversation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::budget::Filling;
use super::connection::Closed;
use super::inbox::Inbox;
use super::link::Link;
use super::torrent::Torrent;
use crate::conversation::{Conversation, End, RESTING_TICK, Scene, TICK};
use crate::wire::Message;

/// Read from the socket at a time.
const READ: usize = 256 * 1024;

/// The reading half.
pub struct Reader<R> {
    torrent: Arc<Torrent>,
    link: Arc<Link>,
    talk: Conversation<Filling>,
    stream: R,
    inbox: Inbox,
    /// Payload bytes since the download limit was last asked.
    unpaid: u64,
    /// Payload has come in.
    received: bool,
    rng: StdRng,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// For a conversation that has begun.
    pub fn new(torrent: Arc<Torrent>, link: Arc<Link>, talk: Conversation<Filling>, stream: R) -> Self {
        Self {
            torrent,
            link,
            talk,
            stream,
            inbox: Inbox::new(READ),
            unpaid: 0,
            received: false,
            rng: StdRng::from_rng(&mut rand::rng()),
        }
    }

    /// Reads until the connection ends.
    pub async fn run(&mut self) -> Result<(), Closed> {
        let mut news = self.torrent.news.subscribe();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                read = self.stream.read(self.inbox.room()) => {
                    let read = read?;
                    if read == 0 {
                        return Err(Closed::ByPeer);
                    }
                    self.inbox.came(read);
                    self.talk.heard(self.torrent.engine.clock.now());
                    self.consume()?;
                }
                _ = news.changed() => self.step(Conversation::look_again)?,
                _ = tick.tick() => {
                    self.step(Conversation::tick)?;
                    self.inbox.look();
                    if self.talk.is_resting() {
                        tick.reset_after(RESTING_TICK);
                    }
                }
            }
            self.step(Conversation::refill)?;
            if self.unpaid > 0 {
                self.pay().await;
            }
        }
    }

    /// Waits for the limits of downloads. That we do not listen meanwhile is not the peer's silence.
    async fn pay(&mut self) {
        let before = self.torrent.engine.clock.now();
        let unpaid = std::mem::take(&mut self.unpaid);
        self.torrent.download_limit.pass(unpaid).await;
        self.torrent.engine.download_limit.pass(unpaid).await;
        self.talk.looked_away(self.torrent.engine.clock.now().saturating_sub(before));
    }

    /// Whether payload has come in.
    pub fn has_received(&self) -> bool {
        self.received
    }

    /// Whether the peer was told why it is cut off.
    pub fn has_reproached(&self) -> bool {
        self.talk.has_reproached()
    }

    /// Listens to nothing that comes any more: a socket that is closed while there is something to be read takes what was said along.
    pub async fn drain(&mut self) {
        let mut nowhere = vec![0; READ];
        while self.stream.read(&mut nowhere).await.is_ok_and(|read| read > 0) {}
    }

    /// Gives all pieces back, half-fetched ones to whoever comes next.
    pub fn give_up_all(&mut self) {
        let _ended = self.step(|talk, scene| {
            talk.give_up_all(scene);
            Ok(())
        });
    }

    /// One step of the conversation, now.
    fn step(
        &mut self,
        step: impl FnOnce(&mut Conversation<Filling>, &mut Scene<'_, Arc<Torrent>, Link>) -> Result<(), End>,
    ) -> Result<(), End> {
        let now = self.torrent.engine.clock.now();
        let mut scene = Scene { host: &self.torrent, out: &*self.link, now, rng: &mut self.rng };
        step(&mut self.talk, &mut scene)
    }

    /// Handles all whole messages that have come.
    fn consume(&mut self) -> Result<(), Closed> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let ended = inbox.each(|message| self.handle(message).map_err(Closed::from));
        self.inbox = inbox;
        ended
    }

    fn handle(&mut self, message: Message<'_>) -> Result<(), End> {
        if let Message::Piece { data, .. } = message {
            self.torrent.counters.downloaded.fetch_add(data.len() as u64, Ordering::Relaxed);
            self.unpaid += data.len() as u64;
            self.received = true;
        }
        self.step(|talk, scene| talk.handle(message, scene))
    }
}

#[cfg(test)]
mod tests;
