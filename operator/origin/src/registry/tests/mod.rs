//! What a registry may say, by the number of the threat: read from text, and over real sockets on loopback.

mod credentials;
mod documents;
mod names;
mod porter;
mod pull;
mod scripted;
mod tokens;

use super::*;
