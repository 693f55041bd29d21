//! The `samara-sidecar` binary: see [`sidecar`].

mod args;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let logs = args.logs.clone();
    daemon::run("samara-sidecar", &logs, |shutdown| async move { args.run(shutdown).await })
}
