//! A whole request is the same whatever follows it, and what it asks is the same once it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker::limits::{FIRST_UNPRIVILEGED_PORT, MAX_NUM_WANT, MAX_SCRAPE};
use tracker::query::{Announce, Event, scrape};
use tracker::request::{Parsed, Resource, may_end};

fuzz_target!(|bytes: &[u8]| {
    let Parsed::Whole(request, length) = Parsed::of(bytes) else { return };
    let (head, _) = bytes.split_at(length);
    assert_eq!(Parsed::of(head), Parsed::Whole(request, length));
    for part in [length - 1, length / 2] {
        assert_eq!(Parsed::of(&head[..part]), Parsed::Part);
        assert!(may_end(head, part), "the end is seen whatever was seen before");
    }
    match request.asked.resource {
        Resource::Announce => {
            if let Ok(announce) = Announce::parse(request.asked.query) {
                assert!(announce.port >= FIRST_UNPRIVILEGED_PORT && announce.num_want <= MAX_NUM_WANT);
                assert_eq!(Announce::parse(&write(&announce)).as_ref(), Ok(&announce));
            }
        }
        Resource::Scrape => {
            if let Ok(names) = scrape(request.asked.query) {
                assert!((1..=MAX_SCRAPE).contains(&names.len()));
                let again: Vec<String> =
                    names.iter().map(|name| format!("info_hash={}", encode(&name.0))).collect();
                assert_eq!(scrape(&again.join("&")), Ok(names));
            }
        }
    }
});

/// An announce as a query.
fn write(announce: &Announce) -> String {
    let event = match announce.event {
        Event::None => "",
        Event::Started => "started",
        Event::Completed => "completed",
        Event::Stopped => "stopped",
    };
    let mut query = format!(
        "info_hash={}&peer_id={}&port={}&event={event}&numwant={}&compact={}",
        encode(&announce.info_hash.0),
        encode(&announce.peer_id),
        announce.port,
        announce.num_want,
        u8::from(announce.compact),
    );
    query.extend(announce.left.map(|left| format!("&left={left}")));
    query.extend(announce.node.as_ref().map(|node| format!("&node={}", encode(node.as_bytes()))));
    query
}

fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}
