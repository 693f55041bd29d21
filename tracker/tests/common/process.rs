//! The binary as a process.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)] // helpers of tests: a failure is the test's failure, and not every test needs all

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::common::{Answer, exchange};

/// How long anything may take. Nothing here is judged by its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, without the environment of the test.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara-tracker"));
    command.env_clear().stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// One that serves.
pub struct Process {
    pub child: Child,
    /// Where, as it says itself.
    pub address: String,
    /// Where over UDP, or `off`.
    pub udp: String,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Process {
    /// Starts it on a free port.
    pub async fn start(command: &mut Command) -> Self {
        let mut child = command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            let event: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if event["message"] == "listening" {
                let text = |key: &str| event[key].as_str().unwrap().to_owned();
                return Process { child, address: text("address"), udp: text("udp"), lines };
            }
        }
    }

    /// The next line of its log; none when it has ended.
    pub async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line or the end").unwrap()
    }

    /// The next line of its log that says this.
    pub async fn until_said(&mut self, wanted: &str) -> String {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("it ended, and never said `{wanted}`"));
            if line.contains(wanted) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Asks it for something.
    pub async fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        exchange(TcpStream::connect(&self.address).await.unwrap(), request.as_bytes()).await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("an end").unwrap()
    }
}
