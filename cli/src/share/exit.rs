//! How `samara seed` and `samara get` end: by themselves, by a signal, or because they cannot go on.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::signal::unix::{self, SignalKind};

use crate::output;

/// Exit code of a command line that asks for what cannot be, as clap's.
const USAGE: u8 = 2;

/// What asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// What a shell says of a program that the signal ended: 128 and its number.
    fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// An end that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The options do not fit together, or do not fit the torrent.
    #[error("{0}")]
    Usage(String),
    /// A signal, before everything was here.
    #[error("interrupted; the same command goes on where it was")]
    Interrupted(Signal),
}

/// Listens for the signals that end a program.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// From now on.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            terminate: unix::signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    /// The first one that comes.
    pub async fn first(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// Says why a command ended, and makes its exit code. Errors that are no [`End`] are left to the caller, who prints them.
pub fn settle(outcome: Result<()>, json: bool) -> Result<ExitCode> {
    let Err(error) = outcome.or_else(output::forgive_broken_pipe) else { return Ok(ExitCode::SUCCESS) };
    let end = error.downcast_ref::<End>();
    if let Some(End::Interrupted(signal)) = end {
        output::say(&error.to_string());
        return Ok(signal.exit_code().into());
    }
    if json {
        // Whoever does not listen any more knows by the exit code.
        drop(output::result(&json!({ "event": "error", "message": format!("{error:#}") }).to_string()));
    }
    if end.is_some() {
        output::say(&daemon::error_line(&error));
        return Ok(USAGE.into());
    }
    Err(error)
}
