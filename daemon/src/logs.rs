//! Logs to stderr, and traces to a collector if the environment names one.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::otlp;

/// What is logged unless told otherwise.
const DEFAULT_FILTER: &str = "info";

/// The options about logs that every daemon has: flatten them into its clap arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// What to log: a level, or `target=level` directives separated by commas [falls back to RUST_LOG, then to `info`]
    #[arg(long = "log", env = "SAMARA_LOG", value_name = "FILTER", help_heading = "Logs")]
    pub filter: Option<String>,

    /// How to write logs to stderr
    #[arg(
        long = "log-format",
        env = "SAMARA_LOG_FORMAT",
        value_enum,
        default_value_t,
        help_heading = "Logs"
    )]
    pub format: LogFormat,
}

impl Default for LogArgs {
    fn default() -> Self {
        LogArgs { filter: None, format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line per event, coloured on a terminal unless NO_COLOR is set.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Keeps the exporter of traces; dropping it sends what is still buffered.
#[must_use = "traces are flushed when this is dropped"]
#[derive(Debug, Default)]
pub struct LogGuard {
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take()
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Starts logging, and tracing if `OTEL_EXPORTER_OTLP_ENDPOINT` (or `.._TRACES_ENDPOINT`) is set. `name` is the service's name in
/// traces unless `OTEL_SERVICE_NAME` says another. Must be called within a tokio runtime of several threads, which carries the
/// exporter. Does nothing when a subscriber is already there, as when several daemons run in one process.
///
/// # Errors
/// When the filter or the endpoint cannot be understood.
pub fn init_logs(name: &'static str, args: &LogArgs) -> anyhow::Result<LogGuard> {
    if tracing::dispatcher::has_been_set() {
        return Ok(LogGuard::default());
    }
    let filter = filter(args)?;
    let traces = otlp::provider(name)?;
    let text = fmt::layer().with_writer(std::io::stderr).with_ansi(colours());
    let lines = match args.format {
        LogFormat::Text => text.boxed(),
        LogFormat::Json => text.with_ansi(false).json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces.as_ref().map(otlp::layer))
        .try_init()
        .context("cannot start logging")?;
    Ok(LogGuard { traces })
}

fn filter(args: &LogArgs) -> anyhow::Result<EnvFilter> {
    let wanted = match &args.filter {
        Some(filter) => filter.clone(),
        None => match std::env::var("RUST_LOG") {
            Ok(filter) if !filter.is_empty() => filter,
            Ok(_) | Err(std::env::VarError::NotPresent) => DEFAULT_FILTER.to_owned(),
            Err(error) => bail!("RUST_LOG cannot be read: {error}"),
        },
    };
    EnvFilter::try_new(&wanted).with_context(|| format!("cannot understand the log filter `{wanted}`"))
}

/// <https://no-color.org>: any value that is not empty turns colours off.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_understood_is_an_error() {
        let args = LogArgs { filter: Some("tracker=verbose!!".to_owned()), ..LogArgs::default() };
        let error = filter(&args).expect_err("`verbose!!` is no level");
        assert!(error.to_string().contains("tracker=verbose!!"), "{error:#}");
    }

    #[test]
    fn directives_are_taken() {
        let args = LogArgs { filter: Some("warn,tracker=debug".to_owned()), ..LogArgs::default() };
        assert_eq!(filter(&args).expect("a valid filter").to_string(), "tracker=debug,warn");
    }
}
