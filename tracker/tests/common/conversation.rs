//! A connection that stays: requests as bytes, answers by their Content-Length.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, Running};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Conversation {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Conversation {
    pub async fn open(tracker: &Running, from: &str) -> Self {
        Conversation { stream: tracker.connect(from.parse().unwrap()).await, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The tracker may close before it has read all.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let length = answer.header("content-length").unwrap().parse().unwrap();
        while self.read.len() < length {
            self.more().await;
        }
        answer.body = self.read.drain(..length).collect();
        answer
    }

    /// The next head, and nothing behind it.
    pub async fn head(&mut self) -> Answer {
        let end = loop {
            match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end,
                None => self.more().await,
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: Vec::new() }
    }

    async fn more(&mut self) {
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
    }

    /// All that comes until the end, however it ends.
    pub async fn rest(&mut self) -> String {
        drop(tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut self.read)).await.unwrap());
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Whether the tracker closes without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.rest().await.is_empty()
    }
}
