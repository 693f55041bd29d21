//! The first 68 bytes of a connection (BEP 3), with the capability bits of BEP 6, 10 and 52.

use torrent::WireId;

/// Length of a handshake in bytes.
pub const HANDSHAKE_LEN: usize = 68;
/// Length prefix and protocol name.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// The 20 bytes by which a client names itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerId({})", self.0.escape_ascii())
    }
}

/// What a client says that it can do: the eight reserved bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Fast extension (BEP 6): reserved\[7\] 0x04.
    pub fast: bool,
    /// Extension protocol (BEP 10): reserved\[5\] 0x10.
    pub extended: bool,
    /// Can speak v2 (BEP 52): reserved\[7\] 0x10.
    pub v2: bool,
}

impl Capabilities {
    fn to_reserved(self) -> [u8; 8] {
        let mut reserved = [0; 8];
        reserved[5] = u8::from(self.extended) * 0x10;
        reserved[7] = (u8::from(self.fast) * 0x04) | (u8::from(self.v2) * 0x10);
        reserved
    }

    fn from_reserved(reserved: [u8; 8]) -> Self {
        Self { fast: reserved[7] & 0x04 != 0, extended: reserved[5] & 0x10 != 0, v2: reserved[7] & 0x10 != 0 }
    }
}

/// A parsed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// What the sender can do.
    pub capabilities: Capabilities,
    /// Which swarm it means: a v1 infohash, or a v2 infohash cut to 20 bytes.
    pub id: WireId,
    /// Who it is.
    pub peer_id: PeerId,
}

/// The bytes are no BitTorrent handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a BitTorrent handshake")]
pub struct NotAHandshake;

impl Handshake {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.capabilities.to_reserved());
        bytes[28..48].copy_from_slice(&self.id.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads the bytes of the wire; unknown reserved bits are ignored.
    pub fn decode(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Self, NotAHandshake> {
        if bytes[..20] != PROTOCOL[..] {
            return Err(NotAHandshake);
        }
        let mut reserved = [0; 8];
        let mut id = [0; 20];
        let mut peer_id = [0; 20];
        reserved.copy_from_slice(&bytes[20..28]);
        id.copy_from_slice(&bytes[28..48]);
        peer_id.copy_from_slice(&bytes[48..]);
        Ok(Self {
            capabilities: Capabilities::from_reserved(reserved),
            id: WireId(id),
            peer_id: PeerId(peer_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(fast: bool, extended: bool, v2: bool, id: [u8; 20], peer: [u8; 20]) {
            let sent = Handshake {
                capabilities: Capabilities { fast, extended, v2 },
                id: WireId(id),
                peer_id: PeerId(peer),
            };
            prop_assert_eq!(Handshake::decode(&sent.encode()).unwrap(), sent);
        }
    }

    #[test]
    fn another_protocol_is_refused() {
        let mut bytes = Handshake {
            capabilities: Capabilities::default(),
            id: WireId([1; 20]),
            peer_id: PeerId([2; 20]),
        }
        .encode();
        bytes[3] ^= 1;
        assert_eq!(Handshake::decode(&bytes), Err(NotAHandshake));
    }
}
