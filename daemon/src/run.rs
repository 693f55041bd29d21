//! Running a daemon: runtime, signals, exit code.

use std::future::Future;
use std::io::Write;
use std::process::{ExitCode, Termination};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logs::{LogArgs, init_logs};

/// Runs `body` on a runtime of its own until it returns, and makes an exit code of what it returned.
///
/// `body` gets the token that SIGTERM or SIGINT cancels; a second signal ends the process at once. An error is printed as one
/// line `error: what: why: ...` on stderr, without a backtrace. Traces are flushed before this returns.
pub fn run<B, F, T>(name: &'static str, logs: &LogArgs, body: B) -> ExitCode
where
    B: FnOnce(CancellationToken) -> F,
    F: Future<Output = anyhow::Result<T>>,
    T: Termination,
{
    match try_run(name, logs, body) {
        Ok(done) => done.report(),
        Err(error) => fail(&error),
    }
}

/// Prints an error as [`run`] does, and is exit code 1.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    // Nothing is left to be told if stderr itself is gone.
    drop(writeln!(std::io::stderr(), "{}", error_line(error)));
    ExitCode::FAILURE
}

fn try_run<B, F, T>(name: &'static str, logs: &LogArgs, body: B) -> anyhow::Result<T>
where
    B: FnOnce(CancellationToken) -> F,
    F: Future<Output = anyhow::Result<T>>,
{
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = {
        let _entered = runtime.enter();
        let guard = init_logs(name, logs)?;
        let result = runtime.block_on(async {
            let shutdown = shutdown_on_signal()?;
            body(shutdown).await
        });
        // The exporter sends over the runtime, so the last traces go before it does.
        drop(guard);
        result
    };
    // A task that does not look at the token must not hold the process.
    runtime.shutdown_background();
    result
}

/// The whole chain of an error on one line, as every binary prints it.
pub fn error_line(error: &anyhow::Error) -> String {
    let chain = format!("{error:#}");
    let lines: Vec<&str> = chain.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("error: {}", lines.join("; "))
}

/// A token that the first SIGTERM or SIGINT cancels. The second signal ends the process at once.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for nth in 0.. {
            // With what a shell says of a program that the signal ended.
            let (name, code) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 143),
                _ = interrupt.recv() => ("SIGINT", 130),
            };
            if nth > 0 {
                std::process::exit(code);
            }
            tracing::info!(signal = name, "stopping");
            cancel.cancel();
        }
    });
    Ok(token)
}

/// Raises the number of files that this process may open to what the system allows it. Shells give 1,024, which is fewer than
/// the connections that the servers accept.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// How many files this process may have open; `usize::MAX` when there is no limit.
pub(crate) fn file_limit() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        let error = anyhow::anyhow!("connection refused\n  by peer").context("cannot reach the operator");
        assert_eq!(error_line(&error), "error: cannot reach the operator: connection refused; by peer");
    }

    #[test]
    fn the_exit_code_tells_whether_the_body_succeeded() {
        let logs = LogArgs::default();
        let good = run("samara-test", &logs, |_| async { Ok(()) });
        let own = run("samara-test", &logs, |_| async { Ok(ExitCode::from(3)) });
        let bad = run("samara-test", &logs, |_| async { Err::<(), _>(anyhow::anyhow!("no")) });
        assert_eq!(format!("{good:?}"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{own:?}"), format!("{:?}", ExitCode::from(3)));
        assert_eq!(format!("{bad:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
