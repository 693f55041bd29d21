//! What is heard of an extension handshake or a metadata message is bounded, and the same when it is said again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm::wire::ExtensionHandshake;
use swarm::wire::metadata::{MAX_METADATA, Metadata, PART};

fuzz_target!(|payload: &[u8]| {
    if let Ok(heard) = ExtensionHandshake::decode(payload) {
        assert!(heard.port != Some(0) && heard.ut_metadata != Some(0));
        assert!(heard.metadata_size.is_none_or(|size| (1..=MAX_METADATA).contains(&(size as usize))));
        assert!(
            heard.client.iter().all(|client| client.len() <= 4 * 64 && !client.contains(char::is_control))
        );
        assert_eq!(ExtensionHandshake::decode(&heard.encode()), Ok(heard));
    }
    if let Ok(heard) = Metadata::decode(payload)
        && heard != Metadata::Unknown
    {
        assert!(!matches!(heard, Metadata::Data { data, .. } if data.len() > PART));
        assert_eq!(Metadata::decode(&heard.encode()), Ok(heard));
    }
});
