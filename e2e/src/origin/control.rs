//! How a test talks to its origin: one JSON line each way over a Unix socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::server::State;
use super::{Content, Faults};

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a test may ask of its origin.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Set a file.
    Put {
        /// Without the first slash.
        path: String,
        /// What it holds.
        content: Content,
    },
    /// Remove a file.
    Remove {
        /// Without the first slash.
        path: String,
    },
    /// Replace all faults.
    Faults(Faults),
    /// Answer the counts.
    Stats,
    /// Count from zero.
    Reset,
}

/// Asks, and waits for the answer.
pub async fn ask<T: serde::de::DeserializeOwned>(socket: &Path, request: &Request) -> Result<T> {
    let exchange = async {
        let mut stream = BufReader::new(UnixStream::connect(socket).await?);
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    };
    tokio::time::timeout(TIMEOUT, exchange).await.context("the origin's control socket does not answer")?
}

/// Answers requests for ever.
pub async fn serve(listener: UnixListener, state: Arc<State>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        if let Err(error) = answer(stream, &state).await {
            eprintln!("control: {error:#}");
        }
    }
}

async fn answer(stream: UnixStream, state: &State) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut answer = serde_json::to_vec(&state.answer(serde_json::from_str(&line)?))?;
    answer.push(b'\n');
    stream.write_all(&answer).await?;
    Ok(())
}
