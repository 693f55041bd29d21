//! The `samara-tracker` binary.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> ExitCode {
    let args = tracker::Args::parse();
    let logs = args.logs.clone();
    daemon::run("samara-tracker", &logs, |shutdown| args.run(shutdown))
}
