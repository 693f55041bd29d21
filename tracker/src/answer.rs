//! Answers in bencode, as clients of any age read them. Each is written behind what a buffer holds, without copies on the way.

use std::net::IpAddr;

use torrent::bencode::{DictWriter, Writer};

use crate::directory::{Refusal, ScrapeEntry};
use crate::limits::RETRY_MINUTES;
use crate::peer::Contact;
use crate::query::Announce;
use crate::swarm::Reply;

/// The answer to an announce (BEP 3, 7, 23, 24).
pub fn announce(out: &mut Vec<u8>, reply: &Reply, asked: &Announce, source: IpAddr, epoch: &str) {
    write(out, |dict| {
        dict.entry("complete").uint(reply.complete as u64);
        match source {
            IpAddr::V4(v4) => dict.entry("external ip").bytes(v4.octets()),
            IpAddr::V6(v6) => dict.entry("external ip").bytes(v6.octets()),
        }
        dict.entry("incomplete").uint(reply.incomplete as u64);
        dict.entry("interval").uint(reply.interval.into());
        dict.entry("min interval").uint((reply.interval / 2).into());
        if asked.compact {
            compact(dict, &reply.peers);
        } else {
            dict.entry("peers").list(|list| long(list, &reply.peers));
        }
        dict.entry("tracker id").bytes(epoch);
        if !reply.listed {
            dict.entry("warning message").bytes("too many peers: this one is not handed out to others");
        }
    });
}

/// The answer to a scrape (BEP 48). `entries` may name a torrent twice.
pub fn scrape(out: &mut Vec<u8>, mut entries: Vec<ScrapeEntry>) {
    entries.sort_by_key(|entry| entry.info_hash);
    entries.dedup_by_key(|entry| entry.info_hash);
    write(out, |dict| {
        dict.entry("files").dict(|files| {
            for entry in entries {
                files.entry(entry.info_hash.0).dict(|file| {
                    file.entry("complete").uint(entry.complete as u64);
                    file.entry("downloaded").uint(entry.downloaded.into());
                    file.entry("incomplete").uint(entry.incomplete as u64);
                });
            }
        });
    });
}

/// A refusal as clients show it to their users.
pub fn failure(out: &mut Vec<u8>, reason: &str) {
    write(out, |dict| dict.entry("failure reason").bytes(reason));
}

/// What the tracker will not do. If it may later, it says when (BEP 31): in minutes, and in seconds for clients that know only those (libtorrent).
pub fn refused(out: &mut Vec<u8>, refusal: Refusal) {
    write(out, |dict| {
        dict.entry("failure reason").bytes(refusal.to_string());
        if refusal == Refusal::Busy {
            dict.entry("interval").uint(u64::from(RETRY_MINUTES) * 60);
            dict.entry("retry in").uint(RETRY_MINUTES.into());
        }
    });
}

fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut DictWriter<'_>)) {
    let mut writer = Writer::behind(std::mem::take(out));
    writer.dict(fill);
    *out = writer.into_bytes();
}

/// `peers`: 6 bytes each (BEP 23); `peers6`: 18 bytes each (BEP 7), left out if there are none.
fn compact(dict: &mut DictWriter<'_>, peers: &[Contact]) {
    dict.entry("peers").concat(peers.iter().filter_map(|peer| {
        let mut bytes = [0; 6];
        bytes[..4].copy_from_slice(&peer.v4?.octets());
        bytes[4..].copy_from_slice(&peer.port.to_be_bytes());
        Some(bytes)
    }));
    if peers.iter().all(|peer| peer.v6.is_none()) {
        return;
    }
    dict.entry("peers6").concat(peers.iter().filter_map(|peer| {
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&peer.v6?.octets());
        bytes[16..].copy_from_slice(&peer.port.to_be_bytes());
        Some(bytes)
    }));
}

/// Without peer ids: no client needs them, and they would be most of what a tracker keeps.
fn long(list: &mut Writer, peers: &[Contact]) {
    for peer in peers {
        for address in peer.addresses() {
            list.dict(|dict| {
                dict.entry("ip").bytes(address.ip().to_string());
                dict.entry("port").uint(address.port().into());
            });
        }
    }
}
