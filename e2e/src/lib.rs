//! What crosses processes: other clients, real clusters, faults, benchmarks.

pub mod bench;
pub mod clients;
pub mod cluster;
pub mod conformance;
pub mod installed;
pub mod node;
pub mod origin;
pub mod payload;
pub mod power;
pub mod pulls;
pub mod python;
pub mod real;
pub mod registry;
pub mod runtime;
pub mod samara;
pub mod suite;
pub mod tracker_http;
