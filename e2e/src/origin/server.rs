//! The origin's HTTP/1.1, by hand: a library would not let it lie about the length or stop in the middle.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream, UnixListener};
use tokio::time::Instant;

use super::control::{self, Request};
use super::{Content, Faults, Stats};

/// Longest request head.
const MAX_HEAD: usize = 64 * 1024;
/// Payload bytes made, sent and counted at a time.
const CHUNK: usize = 64 * 1024;
/// Small, so that what is counted as given away is not far ahead of what went over the wire.
const SEND_BUFFER: u32 = 256 * 1024;
/// How often a stalled response looks whether it may go on.
const STALL_POLL: Duration = Duration::from_millis(100);

/// What the origin has and how it behaves.
#[derive(Debug, Default)]
pub struct State {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, (u64, Arc<Content>)>,
    version: u64,
    faults: Faults,
    stats: Stats,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    /// Does what a test asks and answers it.
    pub fn answer(&self, request: Request) -> Value {
        let mut inner = self.lock();
        match request {
            Request::Put { path, content } => {
                inner.version += 1;
                let version = inner.version;
                inner.files.insert(path, (version, Arc::new(content)));
            }
            Request::Remove { path } => drop(inner.files.remove(&path)),
            Request::Faults(faults) => inner.faults = faults,
            Request::Stats => return json!(inner.stats),
            Request::Reset => inner.stats = Stats::default(),
        }
        Value::Null
    }

    fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }
}

/// Serves HTTP on `listen` and the tests on the socket `control`, until the process is ended.
pub async fn run(listen: std::net::SocketAddr, control: &Path) -> Result<()> {
    let state = Arc::new(State::default());
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(listen)?;
    let listener = socket.listen(1024)?;
    tokio::spawn(control::serve(UnixListener::bind(control)?, state.clone()));
    loop {
        let (stream, peer) = listener.accept().await?;
        let state = state.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &state).await {
                eprintln!("{peer}: {error:#}");
            }
        });
    }
}

/// The parts of a request that matter here.
#[derive(Debug, Default)]
struct Head {
    method: String,
    path: String,
    range: Option<(u64, Option<u64>)>,
    if_range: Option<String>,
    close: bool,
}

async fn connection(stream: TcpStream, state: &State) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await? {
        let keep = respond(stream.get_mut(), state, &head).await?;
        eprintln!("{} {} {:?}", head.method, head.path, head.range);
        if !keep || head.close {
            break;
        }
    }
    Ok(())
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Result<Option<Head>> {
    let mut head = Head::default();
    let mut total = 0;
    loop {
        let mut line = String::new();
        total += stream.read_line(&mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        if total > MAX_HEAD {
            bail!("request head over {MAX_HEAD} bytes");
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(head));
        }
        if head.method.is_empty() {
            let mut words = line.split(' ');
            head.method = words.next().unwrap_or_default().into();
            let target = words.next().unwrap_or_default().trim_start_matches('/');
            head.path = decode(target.split('?').next().unwrap_or_default())?;
        } else if let Some((name, value)) = line.split_once(':') {
            header(&mut head, &name.to_ascii_lowercase(), value.trim());
        }
    }
}

fn header(head: &mut Head, name: &str, value: &str) {
    match name {
        "range" => {
            head.range = value.strip_prefix("bytes=").and_then(|range| {
                let (first, last) = range.split_once('-')?;
                Some((first.parse().ok()?, last.parse().ok()))
            });
        }
        "if-range" => head.if_range = Some(value.into()),
        "connection" => head.close = value.eq_ignore_ascii_case("close"),
        _ => {}
    }
}

/// Percent-decoding of a path.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail.get(..2).context("a % without two digits")?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    Ok(String::from_utf8(bytes)?)
}

/// Answers one request; whether the connection may be used again.
async fn respond(stream: &mut TcpStream, state: &State, head: &Head) -> Result<bool> {
    let (file, faults) = {
        let mut inner = state.lock();
        inner.stats.requests += 1;
        (inner.files.get(&head.path).cloned(), inner.faults.clone())
    };
    if let Some(target) = &faults.redirect {
        return short(stream, "302 Found", &format!("Location: {target}\r\n")).await;
    }
    if let Some(status) = faults.status {
        return short(stream, &format!("{status} Fault"), "").await;
    }
    let Some((version, content)) = file else { return short(stream, "404 Not Found", "").await };
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        return short(stream, "405 Method Not Allowed", "Allow: GET, HEAD\r\n").await;
    }
    let etag = format!("\"{version}{}\"", faults.etag);
    let size = content.len();
    let wanted =
        head.range.filter(|_| !faults.ignore_range && head.if_range.as_ref().is_none_or(|tag| *tag == etag));
    let (first, end) = match wanted {
        Some((first, _)) if first >= size => {
            let header = format!("Content-Range: bytes */{size}\r\n");
            return short(stream, "416 Range Not Satisfiable", &header).await;
        }
        Some((first, last)) => (first, last.map_or(size, |last| size.min(last.saturating_add(1)))),
        None => (0, size),
    };
    let mut text =
        String::from(if wanted.is_some() { "HTTP/1.1 206 Partial Content" } else { "HTTP/1.1 200 OK" });
    let length = (end - first).saturating_add_signed(faults.length_off_by);
    let range = wanted.map(|_| format!("Content-Range: bytes {first}-{}/{size}", end - 1));
    for header in [
        Some("Content-Type: application/octet-stream".into()),
        Some(format!("Content-Length: {length}")),
        (!faults.no_etag).then(|| format!("ETag: {etag}")),
        (!faults.ignore_range).then(|| "Accept-Ranges: bytes".into()),
        range,
    ]
    .into_iter()
    .flatten()
    {
        text.push_str("\r\n");
        text.push_str(&header);
    }
    stream.write_all((text + "\r\n\r\n").as_bytes()).await?;
    if head.method == "HEAD" {
        return Ok(true);
    }
    body(stream, state, &content, first, end).await.map(|whole| whole && faults.length_off_by == 0)
}

async fn short(stream: &mut TcpStream, status: &str, headers: &str) -> Result<bool> {
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n").as_bytes()).await?;
    Ok(true)
}

/// Sends bytes `first..end`; whether all of them went out.
async fn body(
    stream: &mut TcpStream,
    state: &State,
    content: &Content,
    first: u64,
    end: u64,
) -> Result<bool> {
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut due) = (first, Instant::now());
    while at < end {
        let faults = state.faults();
        let sent = at - first;
        if let Some(rate) = faults.connection_rate {
            tokio::time::sleep_until(due).await;
            // What was lost to waiting for the link is not made up for; a timer that was late is.
            let each = Duration::from_secs_f64(CHUNK as f64 / rate as f64);
            due = due.max(Instant::now() - each) + each;
        }
        if faults.drop_after.is_some_and(|limit| sent >= limit) {
            return Ok(false);
        }
        if faults.stall_after.is_some_and(|limit| sent >= limit) {
            tokio::time::sleep(STALL_POLL).await;
            continue;
        }
        let limit = [faults.drop_after, faults.stall_after].into_iter().flatten().min().unwrap_or(u64::MAX);
        let n = usize::try_from((end - at).min(limit - sent)).map_or(CHUNK, |n| n.min(CHUNK));
        let chunk = &mut chunk[..n];
        content.read(at, chunk);
        if let Some(wrong) = faults.wrong_byte_at.filter(|wrong| (at..at + n as u64).contains(wrong)) {
            chunk[(wrong - at) as usize] ^= 0xff;
        }
        stream.write_all(chunk).await?;
        state.lock().stats.payload_bytes += n as u64;
        at += n as u64;
    }
    Ok(true)
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Random { size, .. } => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        match self {
            Self::Random { seed, .. } => crate::payload::fill(*seed, at, out),
            Self::Bytes(bytes) => out.copy_from_slice(&bytes[at as usize..at as usize + out.len()]),
        }
    }
}
