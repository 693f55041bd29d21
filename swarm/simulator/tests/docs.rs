//! The commands that stand beside figures in the book are commands that the simulator understands.

use clap::Parser;
use simulator::Scenario;

const BENCHMARKS: &str = include_str!("../../../docs/benchmarks.md");
const ENGINE: &str = include_str!("../../../docs/engine.md");
const COMMAND: &str = "cargo run --release -p simulator -- ";

/// As `samara-simulator` has them.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    scenario: Scenario,
    #[arg(long, default_value_t = 1)]
    runs: u64,
}

fn parse(options: &str) -> Result<Options, clap::Error> {
    Options::try_parse_from(["simulator"].into_iter().chain(options.split_whitespace()))
}

/// What stands behind the command, lines that go on taken together.
fn commands(page: &str) -> Vec<String> {
    let page = page.replace("\\\n", " ");
    page.lines().filter_map(|line| line.trim().strip_prefix(COMMAND)).map(str::to_owned).collect()
}

/// The rows of the table of options.
fn rows() -> Vec<&'static str> {
    let table = BENCHMARKS.split("| options |").nth(1).unwrap_or_default();
    table.lines().skip(2).take_while(|line| line.starts_with('|')).collect()
}

#[test]
fn each_figure_has_its_command() {
    let rows = rows();
    assert!(rows.len() > 10, "{rows:#?}");
    for row in rows {
        let options = row.split('`').nth(1).unwrap_or_default();
        assert!(row.starts_with("| `--"), "the options come first, and all of them: {row}");
        parse(options).unwrap_or_else(|error| panic!("{row}: {error}"));
    }
    for command in commands(BENCHMARKS).iter().chain(&commands(ENGINE)) {
        let is_shown = ["OPTIONS", "--help"].contains(&command.as_str());
        assert!(is_shown || parse(command).is_ok(), "{command}");
    }
    assert!(commands(BENCHMARKS).len() > 1);
}
