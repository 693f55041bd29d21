//! The `samara` command: the whole flow on one machine, and BitTorrent without Kubernetes.
//!
//! Results go to standard output, everything else to standard error. A reader that has seen enough (`samara ... | head`) is no
//! error.

mod demo;
mod digest;
mod get;
mod ingest;
mod output;
mod progress;
mod seed;
mod share;
mod torrent_command;
mod units;

use std::process::{ExitCode, Termination};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

/// Content to every node, from peer to peer.
#[derive(Debug, Parser)]
#[command(name = "samara", version, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  samara demo                               8 nodes get 256 MiB, on this machine, without a cluster
  samara demo --nodes 20 model.gguf         the same with a file of yours
  samara torrent create dir/ -a http://10.0.0.1:6969/announce
  samara seed dir/ --run-tracker             share a folder
  samara get a.torrent -o out --peer 10.0.0.1:6881
  samara get https://example.com/model.gguf --tracker http://10.0.0.1:6969/announce

Environment:
  SAMARA_LOG   what to log, as in RUST_LOG (default: warn)
  NO_COLOR     no colours";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Seed(Box<seed::SeedArgs>),
    Get(Box<get::GetArgs>),
    Torrent(torrent_command::TorrentArgs),
    Tracker(tracker::Args),
    /// Print the completions of a shell
    #[command(after_help = "Examples:
  samara completions bash > /etc/bash_completion.d/samara
  samara completions zsh > ~/.zfunc/_samara")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let command = match command() {
        Ok(command) => command,
        Err(error) => return finish(Err(error)),
    };
    match command {
        Command::Torrent(args) => finish(torrent_command::run(args)),
        Command::Tracker(args) => {
            let logs = args.logs.clone();
            daemon::run("samara-tracker", &logs, |shutdown| args.run(shutdown))
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "samara", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Demo(args) => run("warn", |shutdown| async {
            demo::run(args, shutdown).await.or_else(output::forgive_broken_pipe)
        }),
        Command::Seed(args) => {
            let json = args.json;
            run(SHARING_LOGS, |_| async move { share::settle(seed::run(*args).await, json) })
        }
        Command::Get(args) => {
            let json = args.json;
            run(SHARING_LOGS, |_| async move { share::settle(get::run(*args).await, json) })
        }
    }
}

/// What is to be done. A tracker's configuration file gives its options other defaults, so they are parsed again with those.
fn command() -> anyhow::Result<Command> {
    let command = Cli::parse().command;
    let Command::Tracker(args) = &command else { return Ok(command) };
    let Some(config) = args.config() else { return Ok(command) };
    let config = tracker::ConfigFile::read(config, &tracker::Args::command())?;
    let with_config = Cli::command().mut_subcommand("tracker", |tracker| config.set_defaults(tracker));
    Ok(Cli::from_arg_matches(&with_config.get_matches()).unwrap_or_else(|error| error.exit()).command)
}

/// `seed` and `get` say by themselves what these parts of the engine warn of.
const SHARING_LOGS: &str =
    "warn,swarm::net::announcer=error,swarm::net::torrent=error,swarm::net::web_seeds=error";

/// Runs a command that needs a runtime. It says by itself what it does, so only what goes wrong is logged, as far as `filter` has it.
fn run<F, T>(filter: &str, command: impl FnOnce(daemon::CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<T>>,
    T: Termination,
{
    let filter = std::env::var("SAMARA_LOG")
        .or_else(|_| std::env::var("RUST_LOG"))
        .unwrap_or_else(|_| filter.to_owned());
    let logs = daemon::LogArgs { filter: Some(filter), ..daemon::LogArgs::default() };
    daemon::run("samara", &logs, command)
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result.or_else(|error| output::forgive_broken_pipe(error).map(|()| ExitCode::SUCCESS)) {
        Ok(code) => code,
        Err(error) => {
            output::say(&daemon::error_line(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
