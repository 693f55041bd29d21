//! Whom a sidecar talks to besides its peers and the API server: the operator, and the trackers' stores.

mod body;
mod operator;
mod session;
mod tls;
mod token;
mod trackers;

pub use operator::{OperatorClient, OperatorError, OperatorLine};
pub use session::{Session, TrackerToken, keep_session};
pub use token::TokenSource;
pub use trackers::{TrackerError, Trackers};
