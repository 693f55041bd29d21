//! A blob on its way, without its last byte.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mirror::Growing;
use tokio::sync::watch;

/// Its pieces are verified by the word of the node that reads it; that they make the blob is known only when all of them are here. Until
/// then the last byte is held back: nobody gets the whole of what is not what its digest says.
pub struct Withheld {
    blob: Arc<dyn Growing>,
    proved: watch::Receiver<bool>,
}

impl Withheld {
    /// Until `proved` says so. If it never does, who waits for the last byte is told when the sender goes.
    pub fn new(blob: Arc<dyn Growing>, proved: watch::Receiver<bool>) -> Self {
        Self { blob, proved }
    }
}

#[async_trait]
impl Growing for Withheld {
    fn length(&self) -> u64 {
        self.blob.length()
    }

    fn verified(&self, from: u64) -> u64 {
        let verified = self.blob.verified(from);
        if *self.proved.borrow() {
            return verified;
        }
        verified.min(self.blob.length().saturating_sub(1).saturating_sub(from))
    }

    async fn wait(&self, from: u64) -> io::Result<()> {
        self.blob.wait(from).await?;
        if from + 1 >= self.blob.length() {
            let gone = |_| io::Error::new(io::ErrorKind::InvalidData, "the blob is not what its digest says");
            self.proved.clone().wait_for(|proved| *proved).await.map_err(gone)?;
        }
        Ok(())
    }

    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        self.blob.read(from, length).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of it is here.
    struct Here(Bytes);

    #[async_trait]
    impl Growing for Here {
        fn length(&self) -> u64 {
            self.0.len() as u64
        }

        fn verified(&self, from: u64) -> u64 {
            self.length().saturating_sub(from)
        }

        async fn wait(&self, _from: u64) -> io::Result<()> {
            Ok(())
        }

        async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
            Ok(self.0.slice(from as usize..from as usize + length))
        }
    }

    #[tokio::test]
    async fn the_last_byte_comes_when_the_blob_is_proved() {
        let (proof, proved) = watch::channel(false);
        let blob = Withheld::new(Arc::new(Here(Bytes::from_static(b"0123456789"))), proved.clone());
        assert_eq!([blob.verified(0), blob.verified(8), blob.verified(9), blob.verified(10)], [9, 1, 0, 0]);
        blob.wait(8).await.unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), blob.wait(9));
        assert!(waiting.await.is_err());
        proof.send_replace(true);
        blob.wait(9).await.unwrap();
        assert_eq!([blob.verified(0), blob.verified(9)], [10, 1]);

        let (proof, proved) = watch::channel(false);
        let blob = Withheld::new(Arc::new(Here(Bytes::from_static(b"0123456789"))), proved);
        drop(proof);
        assert!(blob.wait(9).await.is_err(), "it is not what it should be");
        assert_eq!(blob.verified(9), 0);
    }
}
