//! The `samara-operator` binary.

use clap::Parser;
use operator::Args;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let logs = args.logs().clone();
    daemon::run("samara-operator", &logs, |shutdown| args.run(shutdown))
}
