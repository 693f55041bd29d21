//! The tracker as a process that others manage: SIGHUP lets it read its lists again, and a service manager hears how it is.

use anyhow::Context;
use daemon::{CancellationToken, ServiceManager};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::ListArgs;
use crate::tracker::Tracker;

/// What a process has to do beside serving.
#[derive(Debug)]
pub(crate) struct Service {
    files: ListArgs,
    hangup: Signal,
    manager: ServiceManager,
}

impl Service {
    /// From now on SIGHUP does not end the process.
    ///
    /// # Errors
    /// When the signal handler cannot be installed.
    pub fn new(files: ListArgs) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Service { files, hangup, manager: ServiceManager::from_env() })
    }

    /// Lets `tracker` serve what the files say.
    ///
    /// # Errors
    /// When one of them is wrong; the tracker keeps the lists that it has.
    pub async fn read_lists(&self, tracker: &Tracker) -> anyhow::Result<()> {
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

    /// Does it until `shutdown`.
    pub async fn run(mut self, tracker: &Tracker, shutdown: CancellationToken) {
        tokio::select! {
            () = tracker.health().readiness().until(true) => self.manager.ready(),
            () = shutdown.cancelled() => {}
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(()) = self.hangup.recv() => self.reload(tracker).await,
            }
        }
        self.manager.stopping();
    }

    async fn reload(&self, tracker: &Tracker) {
        self.manager.reloading();
        let read = self.read_lists(tracker).await;
        tracker.0.metrics.reloaded(read.is_ok());
        match read {
            Ok(()) if self.files.any() => tracing::info!("SIGHUP: the lists were read again"),
            Ok(()) => tracing::info!("SIGHUP: there are no lists to read again"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "the lists stay as they were"),
        }
        self.manager.ready();
    }
}
