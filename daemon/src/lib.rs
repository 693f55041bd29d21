//! What the daemons have in common: logs and traces, signals, health and metrics, and an HTTP server with limits.
//!
//! A binary is then a few lines:
//!
//! ```no_run
//! #[global_allocator]
//! static ALLOCATOR: daemon::Allocator = daemon::Allocator;
//!
//! fn main() -> std::process::ExitCode {
//!     let logs = daemon::LogArgs::default(); // part of the binary's clap arguments
//!     daemon::run("samara-example", &logs, |shutdown| async move {
//!         let listener = daemon::bind(([127, 0, 0, 1], 8080).into())?;
//!         let health = daemon::Health::new("example");
//!         health.readiness().set(true);
//!         daemon::serve(listener, health.router(), daemon::ServeOptions::default(), shutdown).await;
//!         Ok(())
//!     })
//! }
//! ```

mod accept;
mod bind;
mod body;
mod health;
mod logs;
mod notify;
mod otlp;
mod patient;
pub mod range;
mod run;
mod serve;

pub use accept::accept;
pub use bind::{BindError, bind, bind_udp};
pub use body::{BodyError, BodyLimits, read_body};
pub use health::{Health, Readiness, refuse_foreign_hosts};
pub use logs::{LogArgs, LogFormat, LogGuard, init_logs};
/// The global allocator of every binary: musl's own is slow under threads.
pub use mimalloc::MiMalloc as Allocator;
pub use notify::ServiceManager;
pub use run::{error_line, fail, raise_file_limit, run, shutdown_on_signal};
pub use serve::{ServeOptions, serve, serve_connection, serve_with};
pub use tokio_util::sync::CancellationToken;
