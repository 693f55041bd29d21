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

    /// The words of a line, as a shell takes them apart: quotes, and comments at the end.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in line.chars() {
            match (c, quote) {
                ('#', None) if word.is_none() => break,
                (' ', None) => words.extend(word.take()),
                ('\'' | '"', None) => (word, quote) = (Some(word.unwrap_or_default()), Some(c)),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let help = [command.get_after_help(), command.get_after_long_help()];
        let help = help.into_iter().flatten().map(ToString::to_string);
        let help = help.map(|help| help.replace("\\\n", ""));
        let own = help.flat_map(|help| help.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
        own.chain(command.get_subcommands().flat_map(examples))
            .filter(|line| line.starts_with("samara "))
            .collect()
    }

    #[test]
    fn the_examples_of_get_are_command_lines_and_show_all_that_files_of_a_web_server_have() {
        let command = Cli::command();
        let get = examples(command.find_subcommand("get").unwrap());
        for line in &get {
            let parsed = Cli::command().try_get_matches_from(words(line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        let with_url =
            |option: &str| get.iter().any(|line| line.contains("get http") && line.contains(option));
        for option in ["--tracker http", "--fetchers", "--sha256", "--secret-file"] {
            assert!(with_url(option), "no example shows {option}: {get:#?}");
        }
        let help = command.find_subcommand("get").unwrap().get_after_help().unwrap().to_string();
        let of_urls = help.lines().skip_while(|line| !line.contains("samara tracker --public"));
        let mut shown = of_urls.filter(|line| line.starts_with("  ") && line.contains("--"));
        assert!(shown.all(|line| line.len() <= 80), "what a terminal folds cannot be copied: {help}");
        assert!(
            get.iter().any(|line| line.starts_with("samara tracker --public")),
            "the tracker that they need"
        );
    }
}
