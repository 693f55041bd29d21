//! Swarms of the shipped engine core in simulated time and network.
//!
//! Each node has the engine's own [`swarm::core::TorrentCore`], and for each connection the engine's own
//! [`swarm::conversation::Conversation`]; the messages between them are encoded and decoded as on a socket. What is simulated is
//! what lies around them: the time, the links, the disks, the tracker, and what goes wrong. Payload bytes are not there: a
//! block is right or wrong, and its hash says which. Who reads an origin, the operator's own [`operator::grants::Election`] decides.
//!
//! A run depends on its [`Scenario`] alone, the seed of all chance included: what failed once fails again.
//!
//! # The network
//!
//! A node's uplink sends one packet after the other (control messages first, then a block from each connection in turn), each
//! for as long as its bytes take at the node's rate. Behind a latency, which depends on whether the zones differ, lies the
//! receiver's downlink, which takes packets in the order in which they were sent. A connection has at most a window of bytes
//! under way, as with the buffers of a socket. So links are shared fairly and are busy as long as anyone has something to send;
//! losses, and the time that TCP takes to find its rate, are not modelled.

mod end;
mod ingest;
mod node;
mod queue;
mod report;
mod scenario;
mod seats;
mod world;

pub use ingest::Ingest;
pub use report::Outcome;
pub use scenario::{Chaos, Scenario};
pub use world::run;
