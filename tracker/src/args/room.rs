//! How much a tracker holds of clients that are no nodes.

use crate::directory::Room;
use crate::limits::{MAX_PUBLIC_SWARMS, MAX_STRANGERS, MAX_STRANGERS_PER_SOURCE, MAX_STRANGERS_PER_SWARM};

/// Options about [`Room`]. Nodes that the operator has registered are not counted in any of them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct RoomArgs {
    /// Peers to list in all torrents together; who finds no room gets peers, but is not handed out
    #[arg(long = "max-peers", env = "SAMARA_TRACKER_MAX_PEERS", value_name = "N", default_value_t = MAX_STRANGERS as u32, value_parser = clap::value_parser!(u32).range(1..))]
    peers: u32,

    /// Peers to list in one torrent
    #[arg(long = "max-peers-per-torrent", env = "SAMARA_TRACKER_MAX_PEERS_PER_TORRENT", value_name = "N", default_value_t = MAX_STRANGERS_PER_SWARM as u32, value_parser = clap::value_parser!(u32).range(1..))]
    per_torrent: u32,

    /// Peers to list from one IPv4 address or IPv6 /64, in all torrents together
    #[arg(long = "max-peers-per-address", env = "SAMARA_TRACKER_MAX_PEERS_PER_ADDRESS", value_name = "N", default_value_t = MAX_STRANGERS_PER_SOURCE, value_parser = clap::value_parser!(u32).range(1..))]
    per_address: u32,

    /// Torrents that nobody registered to serve at a time
    #[arg(long = "max-torrents", env = "SAMARA_TRACKER_MAX_TORRENTS", value_name = "N", default_value_t = MAX_PUBLIC_SWARMS as u32, value_parser = clap::value_parser!(u32).range(1..))]
    torrents: u32,
}

impl From<RoomArgs> for Room {
    fn from(args: RoomArgs) -> Self {
        let RoomArgs { peers, per_torrent, per_address, torrents } = args;
        Room {
            strangers: peers as usize,
            per_swarm: per_torrent as usize,
            per_source: per_address,
            public_swarms: torrents as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        room: RoomArgs,
    }

    fn room(args: &[&str]) -> Option<Room> {
        Only::try_parse_from([&["x"], args].concat()).ok().map(|only| only.room.into())
    }

    #[test]
    fn each_option_is_the_limit_that_it_names() {
        assert_eq!(room(&[]), Some(Room::default()));
        let all =
            ["--max-peers=4", "--max-peers-per-torrent=3", "--max-peers-per-address=2", "--max-torrents=1"];
        let wanted = Room { strangers: 4, per_swarm: 3, per_source: 2, public_swarms: 1 };
        assert_eq!(room(&all), Some(wanted));
    }

    #[test]
    fn a_tracker_that_lists_nobody_is_refused() {
        for option in ["max-peers", "max-peers-per-torrent", "max-peers-per-address", "max-torrents"] {
            for wrong in ["0", "-1", "4294967296", "many", ""] {
                assert_eq!(room(&[&format!("--{option}={wrong}")]), None, "--{option}={wrong}");
            }
        }
    }
}
