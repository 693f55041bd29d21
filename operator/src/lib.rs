//! The operator: resolve, elect, revise, track, report.
//!
//! It watches the cluster into an [`index`], and for each key that a change touches it looks, plans and does:
//!
//! | folder or file | what it is for |
//! |---|---|
//! | `index`, `watch` | the cluster as it is: synchronous, fed by the watches |
//! | `queue`, `worker` | what has to be looked at, each key once at a time |
//! | `plan` | what is to be done about a `Distribution`: pure |
//! | `distribution`, `class` | look, plan, do, for the two kinds that users write |
//! | `resolve` | from a source to pinned content |
//! | `outline` | what that content goes by while it is read |
//! | `follow` | when a source that is followed is asked whether it is another |
//! | `grants`, `opened`, `ledger` | who reads which origin, by what it is open to them, and what else is only known in memory |
//! | `demands` | blobs of images that no `Distribution` names, and who reads them |
//! | `trackers` | what the trackers are to hold, and what they see |
//! | `api`, `tls` | what sidecars ask, over HTTPS |
//! | `lease`, `schema` | which operator acts, and the CRDs it brings along |
//! | `retire` | what an uninstall runs first |
//!
//! Only the holder of the Lease writes, answers sidecars, and talks to origins and trackers.

pub mod api;
mod args;
pub mod backoff;
pub mod class;
mod context;
pub mod demands;
pub mod distribution;
mod events;
pub mod failure;
pub mod follow;
pub mod grants;
pub mod index;
mod lease;
pub mod ledger;
mod metrics;
pub mod opened;
pub mod outline;
pub mod plan;
pub mod queue;
pub mod resolve;
mod retire;
mod run;
mod schema;
mod tls;
pub mod trackers;
mod watch;
mod worker;

pub use args::Args;
pub use context::{Context, FIELD_MANAGER, Settings};
pub use lease::LEASE;
pub use retire::{RetireArgs, RetireMode, retire};
pub use run::{OperatorConfig, run};
pub use tls::SECRET as TLS_SECRET;
