//! Reading the lists: at the start, and again when SIGHUP says so.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::ListArgs;
use crate::tracker::Tracker;

/// The files with the lists, and the signal to read them again.
#[derive(Debug)]
pub(crate) struct Reload {
    files: ListArgs,
    hangup: Signal,
}

impl Reload {
    /// From now on SIGHUP does not end the process.
    ///
    /// # Errors
    /// When the signal handler cannot be installed.
    pub fn new(files: ListArgs) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Reload { files, hangup })
    }

    /// Lets `tracker` serve what the files say.
    ///
    /// # Errors
    /// When one of them is wrong; the tracker keeps the lists that it has.
    pub async fn take_in(&self, tracker: &Tracker) -> anyhow::Result<()> {
        if !self.files.any() {
            return Ok(());
        }
        let (files, tracker) = (self.files.clone(), tracker.clone());
        let read = move || {
            tracker.restrict(files.read()?);
            Ok(())
        };
        tokio::task::spawn_blocking(read).await?
    }

    /// Waits for the signal and reads the files, again and again.
    pub async fn run(mut self, tracker: &Tracker) {
        while self.hangup.recv().await.is_some() {
            let taken = self.take_in(tracker).await;
            tracker.0.metrics.reloaded(taken.is_ok());
            match taken {
                Ok(()) if self.files.any() => tracing::info!("SIGHUP: the lists were read again"),
                Ok(()) => tracing::info!("SIGHUP: there are no lists to read again"),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the lists stay as they were");
                }
            }
        }
    }
}
