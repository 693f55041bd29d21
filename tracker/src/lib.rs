//! The tracker: announce, scrape, metainfo store.
//!
//! It tells peers of one another over HTTP (BEP 3, 7, 23, 24, 48) and keeps metainfo and content manifests for them. All of it
//! is soft state in memory: peers announce again, the operator registers again.
//!
//! * [`query`], [`policy`], [`swarm`] and [`registry`] are pure: bytes, the time and randomness come in, answers go out.
//! * [`directory`] puts the swarms behind locks, [`store`] keeps what was uploaded.
//! * `http` is the rim, [`answer`] its bencode, [`limits`] every bound.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:6969").await?;
//! let config = tracker::Config { public: true, ..tracker::Config::default() };
//! tracker::serve(listener, config, tracker::CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```

pub mod answer;
mod args;
pub mod directory;
mod http;
pub mod limits;
mod metrics;
pub mod policy;
pub mod query;
pub mod registry;
pub mod store;
pub mod swarm;
mod token;
mod tracker;

pub use args::Args;
pub use daemon::CancellationToken;
pub use token::{Token, TokenError};
pub use tracker::{Config, Tracker, serve};
