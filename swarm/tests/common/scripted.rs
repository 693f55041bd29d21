//! A peer that does what a test tells it to: our codec, no scruples.

use std::net::SocketAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use swarm::near::Place;
use swarm::wire::{
    self, Block, Capabilities, Decoded, ExtensionHandshake, HANDSHAKE_LEN, Handshake, HashRequest, Message,
    PeerId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use torrent::Metainfo;

/// How a scripted seed answers a request: bytes for the block, or silence.
pub type Answer = Arc<dyn Fn(Block, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// A connection on which the handshake is done.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Dials and shakes hands.
    pub async fn dial(address: SocketAddr, metainfo: &Metainfo, id: u8) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&handshake(metainfo, id).encode()).await.unwrap();
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// As [`Self::dial`], and says in the extension handshake that it listens on `port`.
    pub async fn dial_and_name_port(address: SocketAddr, metainfo: &Metainfo, id: u8, port: u16) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut ours = handshake(metainfo, id);
        ours.capabilities.extended = true;
        stream.write_all(&ours.encode()).await.unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
        let mut connection = Self { stream, buffer: Vec::new() };
        let payload = ExtensionHandshake::own(Some(port), None, Place::default()).encode();
        connection.send(Message::Extended { id: 0, payload: &payload }).await;
        connection
    }

    /// Takes a connection and shakes hands without the fast extension.
    pub async fn accept_without_fast(listener: &TcpListener, metainfo: &Metainfo, id: u8) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
        let mut ours = handshake(metainfo, id);
        ours.capabilities.fast = false;
        stream.write_all(&ours.encode()).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// The next request; `None` if the other side has closed.
    pub async fn request(&mut self) -> Option<Block> {
        loop {
            let next =
                self.next(|message| if let Message::Request(block) = message { Some(block) } else { None });
            if let Some(block) = next.await? {
                return Some(block);
            }
        }
    }

    /// The payload lengths of the PIECE messages that come, until they have brought so many bytes.
    pub async fn piece_lengths(&mut self, bytes: usize) -> Vec<usize> {
        let (mut lengths, mut read) = (Vec::new(), std::mem::take(&mut self.buffer));
        while lengths.iter().sum::<usize>() < bytes {
            let len = read.first_chunk().map(|prefix| u32::from_be_bytes(*prefix) as usize);
            let Some(len) = len.filter(|len| read.len() >= 4 + len) else {
                assert!(self.stream.read_buf(&mut read).await.unwrap() > 0, "it has closed");
                continue;
            };
            if len > 0 && read[4] == 7 {
                lengths.push(len + 4 - wire::PIECE_HEADER);
            }
            read.drain(..4 + len);
        }
        self.buffer = read;
        lengths
    }

    /// Sends a message; `false` if the other side has closed.
    pub async fn send(&mut self, message: Message<'_>) -> bool {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.send_raw(&bytes).await
    }

    /// Sends bytes; `false` if the other side has closed.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Handles the next message; `None` if the other side has closed.
    pub async fn next<T>(&mut self, handle: impl FnOnce(Message<'_>) -> T) -> Option<T> {
        loop {
            match wire::decode(&self.buffer).unwrap() {
                Decoded::Message(message, used) => {
                    let result = handle(message);
                    self.buffer.drain(..used);
                    return Some(result);
                }
                Decoded::Block(message, used, rest) => {
                    let result = handle(message);
                    self.buffer.drain(..used);
                    self.buffer[..rest.len()].copy_from_slice(&rest);
                    return Some(result);
                }
                Decoded::Need(_) => {}
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Whether the other side closes the connection before long.
    pub async fn is_closed(&mut self) -> bool {
        let closed = async { while self.next(|_| ()).await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.is_ok()
    }
}

fn handshake(metainfo: &Metainfo, id: u8) -> Handshake {
    Handshake {
        capabilities: Capabilities { fast: true, extended: false, v2: metainfo.info_hash_v2().is_some() },
        id: metainfo.wire_ids()[0],
        peer_id: PeerId([id; 20]),
    }
}

/// A seed of a one-file torrent that answers as told. `id` fills its peer id.
pub async fn seed(metainfo: Arc<Metainfo>, bytes: Vec<u8>, id: u8, answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = Arc::new(bytes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, metainfo.clone(), bytes.clone(), id, answer.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, metainfo: Arc<Metainfo>, bytes: Arc<Vec<u8>>, id: u8, answer: Answer) {
    let mut theirs = [0; HANDSHAKE_LEN];
    if stream.read_exact(&mut theirs).await.is_err() {
        return;
    }
    let mut connection = Connection { stream, buffer: Vec::new() };
    connection.send_raw(&handshake(&metainfo, id).encode()).await;
    connection.send(Message::HaveAll).await;
    connection.send(Message::Unchoke).await;
    while let Some(block) = connection.request().await {
        let start = u64::from(block.piece) * metainfo.piece_length() + u64::from(block.begin);
        let honest = &bytes[start as usize..start as usize + block.len as usize];
        if let Some(data) = answer(block, honest) {
            connection.send(Message::Piece { piece: block.piece, begin: block.begin, data: &data }).await;
        }
    }
}

/// As [`seed`], but one that calls itself one of our own, and answers requests for the leaves of a piece.
pub async fn own_seed(metainfo: Arc<Metainfo>, bytes: Vec<u8>, id: u8, answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = Arc::new(bytes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_own(stream, metainfo.clone(), bytes.clone(), id, answer.clone()));
        }
    });
    address
}

/// What a seed is asked for.
enum Asked {
    Block(Block),
    Leaves(HashRequest),
    Nothing,
}

async fn serve_own(
    mut stream: TcpStream,
    metainfo: Arc<Metainfo>,
    bytes: Arc<Vec<u8>>,
    id: u8,
    answer: Answer,
) {
    if stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.is_err() {
        return;
    }
    let mut connection = Connection { stream, buffer: Vec::new() };
    let mut ours = handshake(&metainfo, id);
    ours.capabilities.extended = true;
    connection.send_raw(&ours.encode()).await;
    let payload = ExtensionHandshake::own(None, None, Place::default()).encode();
    for message in [Message::Extended { id: 0, payload: &payload }, Message::HaveAll, Message::Unchoke] {
        connection.send(message).await;
    }
    let ask = |message: Message<'_>| match message {
        Message::Request(block) => Asked::Block(block),
        Message::HashRequest(request) => Asked::Leaves(request),
        _ => Asked::Nothing,
    };
    while let Some(asked) = connection.next(ask).await {
        match asked {
            Asked::Nothing => {}
            Asked::Block(Block { piece, begin, len }) => {
                let start = u64::from(piece) * metainfo.piece_length() + u64::from(begin);
                let honest = &bytes[start as usize..start as usize + len as usize];
                if let Some(data) = answer(Block { piece, begin, len }, honest) {
                    connection.send(Message::Piece { piece, begin, data: &data }).await;
                }
            }
            Asked::Leaves(request) => {
                let blocks = bytes.chunks(wire::BLOCK as usize).skip(request.index as usize);
                let mut hashes: Vec<u8> =
                    blocks.take(request.length as usize).flat_map(Sha256::digest).collect();
                hashes.resize(32 * request.length as usize, 0);
                connection.send(Message::Hashes { request, hashes: &hashes }).await;
            }
        }
    }
}
