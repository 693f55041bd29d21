use std::time::Duration;

use super::*;
use crate::core::{NewPeer, Source};
use crate::net::store::tests::to_be_checked;
use crate::wire::PeerId;

const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

#[tokio::test]
async fn t040_waiting_for_our_own_limit_is_not_the_peers_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, _) = to_be_checked(folder.path()).await;
    torrent.engine.download_limit.set(Some(100_000));
    let new = NewPeer { id: PeerId([1; 20]), address: ADDRESS, outgoing: true };
    let (key, _) = torrent.core().connected(new, Duration::ZERO).unwrap();
    let source = Source { id: new.id, ip: ADDRESS.ip() };
    let talk = Conversation::new(key, source, true, Duration::ZERO);
    let mut reader = Reader::new(torrent, Arc::default(), talk, tokio::io::empty());
    let before = reader.talk.last_heard();
    reader.unpaid = 50_000;
    reader.pay().await;
    let after = reader.talk.last_heard();
    assert!(after >= before + Duration::from_millis(490), "{after:?}");
    assert_eq!(reader.unpaid, 0);
}
