//! The tracker: announce, scrape, metainfo store.
//!
//! It tells peers of one another over HTTP (BEP 3, 7, 23, 24, 48) and UDP (BEP 15, 41), and keeps metainfo and content manifests for them. All of it
//! is soft state in memory: peers announce again, the operator registers again.
//!
//! * [`request`], [`query`], [`policy`], [`interval`], [`swarm`] and [`registry`] are pure: bytes, the time and randomness come in,
//!   answers go out. A swarm keeps its [`peer`]s packed in [`book`]s.
//! * [`pressure`] decides what a busy tracker does, from counts and the time.
//! * [`directory`] puts the swarms behind locks, [`store`] keeps what was uploaded, [`replication`] keeps siblings in step.
//! * [`lists`] say what is served beside the registry, and what never is.
//! * `http` and [`udp`] are the rim, [`answer`] its bencode, [`limits`] every bound.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:6969").await?;
//! let config = tracker::Config { public: true, ..tracker::Config::default() };
//! tracker::Tracker::new(config)?.serve(listener, tracker::CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```

mod access;
pub mod answer;
mod args;
pub mod book;
pub mod directory;
mod fnv;
mod http;
pub mod interval;
pub mod limits;
pub mod lists;
mod metrics;
pub mod peer;
pub mod policy;
pub mod pressure;
pub mod query;
pub mod registry;
pub mod replication;
pub mod request;
pub mod rows;
mod service;
pub mod store;
pub mod swarm;
pub mod tick;
mod token;
mod tracker;
pub mod udp;
pub mod watch;

pub use args::{Args, ConfigFile, ConfigFileError, ListError, Problem};
pub use daemon::{CancellationToken, ServeOptions};
pub use token::{Token, TokenError};
pub use tracker::{Config, ConfigError, Listeners, Tracker};
