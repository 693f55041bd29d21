//! Web seeds (BEP 19): HTTP servers that have the files, as one more source of pieces.
//!
//! A web seed has every piece and is known to the torrent as a peer is ([`crate::core`]). It reserves runs of neighbouring
//! pieces, asks for ranges of the files they lie in ([`ranges`], [`place`]), reads what the server answers ([`answer`]) and puts
//! the bytes into the same assemblies that blocks of peers go into ([`run`]). What fails is tried again later or never
//! ([`failure`]). Pure: the requests themselves are made in [`crate::net`].

pub mod answer;
pub mod failure;
pub mod place;
pub mod ranges;
pub mod run;

pub use answer::{Asked, Body, Head};
pub use failure::Failure;
pub use ranges::Step;
pub use run::Run;

/// The least that is reserved at a time: on a link of 1 Gbit/s and 30 ms a request then costs a tenth of its time.
pub const MIN_RUN: u64 = 4 << 20;
/// The most: what a source that dies or is slow keeps from the others until the end game.
pub const MAX_RUN: u64 = 16 << 20;
/// Between the two, a run is a power of two of what the server sends in so many seconds at most.
const RUN_SECONDS: u64 = 4;

/// How many bytes to reserve at a server that sends so many bytes a second.
pub fn run_bytes(per_second: u64) -> u64 {
    1 << per_second.saturating_mul(RUN_SECONDS).clamp(MIN_RUN, MAX_RUN).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_about_what_comes_in_four_seconds_within_bounds() {
        assert_eq!(run_bytes(0), MIN_RUN);
        assert_eq!(run_bytes(3 << 20), 8 << 20);
        assert_eq!(run_bytes(u64::MAX), MAX_RUN);
    }
}
