//! Running the machine's programs with a bounded wait, and starting those that stay.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The longest any administrative program may take: beyond it something hangs and waiting does not help.
pub const COMMAND_TIMEOUT: Duration = Duration::from_mins(2);

/// What a finished program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether it ended with exit code 0.
    pub success: bool,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Standard output of a success; of anything else an error that carries what the program said.
    pub fn ok(self, what: &str) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        bail!("{what} failed: {}{}", self.stdout, self.stderr.trim_end())
    }
}

/// A program and its arguments from one line of words; no word contains a space.
pub fn words(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("false"));
    command.args(words);
    command
}

/// Runs `command` to its end, off the async threads, and at most `timeout`.
pub async fn output(command: Command, timeout: Duration) -> Result<Output> {
    tokio::task::spawn_blocking(move || output_blocking(command, timeout)).await.context("runner")?
}

/// Runs `command`; anything but exit code 0 is an error with what it said.
pub async fn run(command: Command) -> Result<String> {
    let what = describe(&command);
    output(command, COMMAND_TIMEOUT).await?.ok(&what)
}

/// Runs one line of words (see [`words`]).
pub async fn line(line: &str) -> Result<String> {
    run(words(line)).await
}

/// Runs one line of words from a place that cannot wait (teardown in `drop`).
pub fn line_blocking(line: &str) -> Result<String> {
    output_blocking(words(line), COMMAND_TIMEOUT)?.ok(line)
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| w.to_string_lossy())
        .collect();
    words.join(" ")
}

/// Output goes to unnamed files, not pipes: a child that forks (a shim) would hold a pipe open for ever.
fn output_blocking(mut command: Command, timeout: Duration) -> Result<Output> {
    let what = describe(&command);
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("{what}: cannot start"))?;
    let status = wait(&mut child, timeout)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let (stdout, stderr) = (text(stdout)?, text(stderr)?);
    match status {
        Some(success) => Ok(Output { success, stdout, stderr }),
        None => bail!("{what}: not finished after {timeout:?}: {stdout}{stderr}"),
    }
}

fn wait(child: &mut Child, timeout: Duration) -> Result<Option<bool>> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn text(mut file: File) -> Result<String> {
    use std::io::{Read as _, Seek as _};
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A program that stays, writing to a log file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it in a process group of its own, so that a Ctrl-C at the terminal reaches the harness only.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let what = describe(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{what}: cannot start"))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended with {status}"),
        }
    }

    /// Ends it and takes its exit status, so that no zombie stays.
    pub fn kill(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Calls `probe` every 100 ms until it answers `Ok(Some)`; after `timeout` an error that names `what` and the last failure.
pub async fn until<T, F, Fut>(what: &str, timeout: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = tokio::time::Instant::now() + timeout;
    let mut last = String::from("no answer yet");
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = format!("{last}; the last probe hung"),
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("{what}: not within {timeout:?} ({last})");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
