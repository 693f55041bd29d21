//! Answers in bencode, as clients of any age read them.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use torrent::bencode::{DictWriter, Writer};

use crate::directory::ScrapeEntry;
use crate::peer::Contact;
use crate::query::Announce;
use crate::swarm::Reply;

/// The answer to an announce (BEP 3, 7, 23, 24).
pub fn announce(reply: &Reply, asked: &Announce, source: IpAddr, epoch: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict(|dict| {
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
    writer.into_bytes()
}

/// The answer to a scrape (BEP 48). `entries` may name a torrent twice.
pub fn scrape(mut entries: Vec<ScrapeEntry>) -> Vec<u8> {
    entries.sort_by_key(|entry| entry.info_hash);
    entries.dedup_by_key(|entry| entry.info_hash);
    let mut writer = Writer::new();
    writer.dict(|dict| {
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
    writer.into_bytes()
}

/// A refusal as clients show it to their users.
pub fn failure(status: StatusCode, reason: &str) -> Response {
    let mut writer = Writer::new();
    writer.dict(|dict| dict.entry("failure reason").bytes(reason));
    (status, bencoded(writer.into_bytes())).into_response()
}

/// A bencoded body; `text/plain` is what trackers have always said.
pub fn bencoded(body: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain")], Body::from(body))
}

/// `peers`: 6 bytes each (BEP 23); `peers6`: 18 bytes each (BEP 7), left out if there are none.
fn compact(dict: &mut DictWriter<'_>, peers: &[Contact]) {
    let (mut v4, mut v6) = (Vec::with_capacity(6 * peers.len()), Vec::new());
    for peer in peers {
        if let Some(address) = peer.v4 {
            v4.extend_from_slice(&address.octets());
            v4.extend_from_slice(&peer.port.to_be_bytes());
        }
        if let Some(address) = peer.v6 {
            v6.extend_from_slice(&address.octets());
            v6.extend_from_slice(&peer.port.to_be_bytes());
        }
    }
    dict.entry("peers").bytes(v4);
    if !v6.is_empty() {
        dict.entry("peers6").bytes(v6);
    }
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
