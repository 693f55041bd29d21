//! The options of `samara-tracker`: from the command line, the environment, and a file.

mod file;
mod lists;
mod room;

use std::net::{AddrParseError, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use daemon::{CancellationToken, LogArgs, ServeOptions};

pub use self::file::{ConfigFile, ConfigFileError, Problem};
pub(crate) use self::lists::ListArgs;
pub use self::lists::ListError;
use self::room::RoomArgs;
use crate::limits::{BUSY_PER_CORE, DEFAULT_STORE_BYTES, MAX_LINGER, MAX_UDP_WORKERS};
use crate::service::Service;
use crate::token::Token;
use crate::tracker::{Config, Listeners, Tracker};
use crate::udp::Sockets;

/// Where the token stands if no file is named. No option takes it: command lines can be read by others.
const TOKEN_VARIABLE: &str = "SAMARA_TRACKER_TOKEN";
/// The option that names the token's file.
const TOKEN_OPTION: &str = "token-file";

const EXAMPLES: &str = "\
Examples:
  A tracker for anybody and any torrent:
    samara-tracker --public

  One for the torrents in a list:
    samara-tracker --allow torrents.txt

  The tracker of a class, as the operator runs it:
    samara-tracker --token-file /var/run/secrets/samara.dev/token

  Two that are in step, so that one may fail:
    samara-tracker --public --token-file token --sibling http://tracker-2:6969
    samara-tracker --public --token-file token --sibling http://tracker-1:6969

  One that speaks HTTP alone:
    samara-tracker --public --udp off

  One that a file configures, in which stands for example `public = true`:
    samara-tracker --config /etc/samara-tracker.toml

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
    /// TOML file with values for these options, by their long names: max-peers = 1000. Command line and environment override it
    #[arg(long, env = "SAMARA_TRACKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address and port to listen on; [::] takes IPv4 too
    #[arg(long, env = "SAMARA_TRACKER_LISTEN", value_name = "ADDRESS:PORT", default_value = "[::]:6969")]
    listen: SocketAddr,

    /// Address and port for UDP, or `off` [default: those of --listen]
    #[arg(long, env = "SAMARA_TRACKER_UDP", value_name = "ADDRESS:PORT|off", value_parser = udp_at)]
    udp: Option<UdpAt>,

    /// Threads that answer UDP [default: one for each core]
    #[arg(long, env = "SAMARA_TRACKER_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_UDP_WORKERS)))]
    workers: Option<u16>,

    /// File with the token that operator and sidecars show
    #[arg(long = TOKEN_OPTION, env = "SAMARA_TRACKER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Serve every torrent, not only registered ones
    // With a value, so that the command line can take back what the file says.
    #[arg(long, env = "SAMARA_TRACKER_PUBLIC", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_parser = BoolishValueParser::new())]
    public: bool,

    #[command(flatten)]
    lists: ListArgs,

    /// Bytes of metainfo and manifests to keep in memory
    #[arg(long, env = "SAMARA_TRACKER_STORE_BYTES", value_name = "BYTES", default_value_t = DEFAULT_STORE_BYTES)]
    store_bytes: u64,

    /// Announces a second beyond which intervals become longer, up to 4 times; beyond 4 times as many, some are refused [default:
    /// 50000 for each core]
    #[arg(long, env = "SAMARA_TRACKER_BUSY_ABOVE", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    busy_above: Option<u32>,

    /// Seconds to go on answering after SIGTERM, not ready any more, until load balancers have noticed
    #[arg(long, env = "SAMARA_TRACKER_LINGER", value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_LINGER)))]
    linger: u16,

    /// Another tracker to be in step with, as http://HOST:PORT; may be given several times. It needs the same token
    #[arg(long = "sibling", env = "SAMARA_TRACKER_SIBLINGS", value_name = "URL", value_delimiter = ',')]
    siblings: Vec<String>,

    #[command(flatten)]
    room: RoomArgs,

    /// Logs.
    #[command(flatten)]
    pub logs: LogArgs,
}

impl Args {
    /// Reads command line, environment and the file that they name. Where clap does so, it ends the process.
    ///
    /// # Errors
    /// When the file is wrong.
    pub fn from_everywhere() -> Result<Self, ConfigFileError> {
        let args = Args::parse();
        let Some(config) = args.config() else { return Ok(args) };
        let command = ConfigFile::read(config, &Args::command())?.set_defaults(Args::command());
        Ok(Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit()))
    }

    /// The configuration file, if there is one; what stands in it is in these arguments only if its values
    /// [are their defaults](ConfigFile::set_defaults).
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Runs a tracker until `shutdown`.
    ///
    /// # Errors
    /// When the token or a list cannot be read, or the port cannot be opened.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Args {
            listen,
            udp,
            workers,
            token_file,
            public,
            lists,
            store_bytes,
            busy_above,
            linger,
            siblings,
            room,
            config: _,
            logs: _,
        } = self;
        let token = read_token(token_file.as_deref())?;
        check_served(token.is_some(), public, lists.allow.is_some())?;
        let service = Service::new(lists)?;
        let listeners = open(listen, udp, workers)?;
        let tracker = Tracker::new(Config {
            token,
            public,
            store_bytes,
            room: room.into(),
            siblings,
            busy_above: busy_above.unwrap_or_else(|| BUSY_PER_CORE * u32::from(cores())),
            linger: Duration::from_secs(linger.into()),
            serve: ServeOptions::default(),
        })?;
        service.read_lists(&tracker).await?;
        let udp = listeners.udp.as_ref().map(Sockets::local_addr).transpose()?;
        let udp = udp.map_or_else(|| "off".to_owned(), |address| address.to_string());
        tracing::info!(address = %listeners.http.local_addr()?, udp, public, "listening");
        tokio::join!(tracker.serve(listeners, shutdown.clone()), service.run(&tracker, shutdown));
        tracing::info!("stopped");
        Ok(())
    }
}

fn read_token(file: Option<&Path>) -> anyhow::Result<Option<Token>> {
    match (file, std::env::var_os(TOKEN_VARIABLE)) {
        (Some(file), _) => Ok(Some(Token::read(file)?)),
        (None, Some(text)) => Ok(Some(Token::new(&text.to_string_lossy()).context(TOKEN_VARIABLE)?)),
        (None, None) => Ok(None),
    }
}

fn check_served(token: bool, public: bool, allow: bool) -> anyhow::Result<()> {
    if public && allow {
        anyhow::bail!(
            "--public serves every torrent, so that --allow would change nothing: give one of them"
        );
    }
    if !token && !public && !allow {
        anyhow::bail!(
            "nothing could be served: give --token-file, so that torrents can be registered, or --public, or --allow"
        );
    }
    Ok(())
}

/// Where UDP is spoken, as the command line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UdpAt {
    Off,
    Address(SocketAddr),
}

fn udp_at(text: &str) -> Result<UdpAt, AddrParseError> {
    if text == "off" { Ok(UdpAt::Off) } else { text.parse().map(UdpAt::Address) }
}

fn cores() -> u16 {
    std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))
}

fn open(listen: SocketAddr, udp: Option<UdpAt>, workers: Option<u16>) -> anyhow::Result<Listeners> {
    let http = daemon::bind(listen)?;
    let address = match udp {
        Some(UdpAt::Off) => return Ok(http.into()),
        Some(UdpAt::Address(address)) => address,
        None => http.local_addr()?,
    };
    let workers = NonZeroU16::new(workers.unwrap_or_else(cores)).unwrap_or(NonZeroU16::MIN);
    let udp = Sockets::bind(address, workers).context("UDP (--udp=off does without it)")?;
    Ok(Listeners { http, udp: Some(udp) })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn udp_is_somewhere_or_off() {
        let parse = |more: &[&str]| Args::try_parse_from([&["samara-tracker"], more].concat());
        let off = parse(&["--udp", "off"]).unwrap();
        assert_eq!(off.udp, Some(UdpAt::Off));
        let there = parse(&["--udp=[::1]:7000", "--workers=3"]).unwrap();
        assert_eq!(
            (there.udp, there.workers),
            (Some(UdpAt::Address("[::1]:7000".parse().unwrap())), Some(3))
        );
        for wrong in ["--udp=on", "--udp=", "--udp=7000", "--workers=0", "--workers=257", "--workers=-1"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
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
