//! The command line of `samara-tracker`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use daemon::{CancellationToken, LogArgs};

use crate::limits::DEFAULT_STORE_BYTES;
use crate::token::Token;
use crate::tracker::{Config, Tracker};

/// Where the token stands if no file is named. No option takes it: command lines can be read by others.
const TOKEN_VARIABLE: &str = "SAMARA_TRACKER_TOKEN";

const EXAMPLES: &str = "\
Examples:
  A tracker for anybody and any torrent:
    samara-tracker --public

  The tracker of a class, as the operator runs it:
    samara-tracker --token-file /var/run/secrets/samara.dev/token

  Two that are in step, so that one may fail:
    samara-tracker --public --token-file token --sibling http://tracker-2:6969
    samara-tracker --public --token-file token --sibling http://tracker-1:6969

  Ask it what it serves:
    curl -H \"Authorization: Bearer $(cat token)\" http://127.0.0.1:6969/v1/swarms

Environment:
  SAMARA_TRACKER_TOKEN          the token, if --token-file is not given
  OTEL_EXPORTER_OTLP_ENDPOINT   http:// address of a collector of traces; without it there are none
  NO_COLOR                      no colours in logs

GET /healthz, /readyz and /metrics are on the same port.";

/// The tracker of Samara: tells BitTorrent clients about one another, and keeps metainfo for them.
///
/// It serves the torrents that the operator has registered, and with --public all others too. It has no database: peers
/// announce again after a restart, and the operator registers again.
#[derive(Clone, Debug, Parser)]
#[command(name = "samara-tracker", version, after_help = EXAMPLES)]
pub struct Args {
    /// Address and port to listen on; [::] takes IPv4 too
    #[arg(long, env = "SAMARA_TRACKER_LISTEN", value_name = "ADDRESS:PORT", default_value = "[::]:6969")]
    listen: SocketAddr,

    /// File with the token that operator and sidecars show
    #[arg(long, env = "SAMARA_TRACKER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Serve every torrent, not only registered ones
    #[arg(long, env = "SAMARA_TRACKER_PUBLIC")]
    public: bool,

    /// Bytes of metainfo and manifests to keep in memory
    #[arg(long, env = "SAMARA_TRACKER_STORE_BYTES", value_name = "BYTES", default_value_t = DEFAULT_STORE_BYTES)]
    store_bytes: u64,

    /// Another tracker to be in step with, as http://HOST:PORT; may be given several times. It needs the same token
    #[arg(long = "sibling", env = "SAMARA_TRACKER_SIBLINGS", value_name = "URL", value_delimiter = ',')]
    siblings: Vec<String>,

    /// Logs.
    #[command(flatten)]
    pub logs: LogArgs,
}

impl Args {
    /// Runs a tracker until `shutdown`.
    ///
    /// # Errors
    /// When the token cannot be read or the port cannot be opened.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Args { listen, token_file, public, store_bytes, siblings, logs: _ } = self;
        let token = match (token_file, std::env::var_os(TOKEN_VARIABLE)) {
            (Some(file), _) => Some(Token::read(&file)?),
            (None, Some(text)) => Some(Token::new(&text.to_string_lossy()).context(TOKEN_VARIABLE)?),
            (None, None) => None,
        };
        if token.is_none() && !public {
            anyhow::bail!(
                "nothing could be served: give --token-file, so that torrents can be registered, or --public"
            );
        }
        let tracker = Tracker::new(Config { token, public, store_bytes, siblings, ..Config::default() })?;
        let listener = daemon::bind(listen)?;
        tracing::info!(address = %listener.local_addr()?, public, "listening");
        tracker.serve(listener, shutdown).await;
        tracing::info!("stopped");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[tokio::test]
    async fn without_token_or_public_it_refuses_to_start() {
        let args = Args::parse_from(["samara-tracker", "--listen", "127.0.0.1:0"]);
        if std::env::var_os(TOKEN_VARIABLE).is_none() {
            let error = args.run(CancellationToken::new()).await.expect_err("nothing to serve");
            assert!(error.to_string().contains("--public"), "{error:#}");
        }
    }
}
