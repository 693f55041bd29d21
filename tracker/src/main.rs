//! The `samara-tracker` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: daemon::Allocator = daemon::Allocator;

fn main() -> ExitCode {
    match tracker::Args::from_everywhere() {
        Ok(args) => {
            let logs = args.logs.clone();
            daemon::run("samara-tracker", &logs, |shutdown| args.run(shutdown))
        }
        Err(error) => daemon::fail(&error.into()),
    }
}
