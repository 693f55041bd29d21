//! A web server that has one file, gives it away at a certain rate, and counts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Sent at a time.
const CHUNK: usize = 16 * 1024;

pub struct Origin {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    file: Vec<u8>,
    /// Bytes per second, all connections together.
    rate: u64,
    parts: bool,
    /// When all that has been sent would have gone out at the rate.
    due: Mutex<Instant>,
    sent: AtomicU64,
    down: AtomicBool,
    /// Its ETag is another when the file has changed.
    changed: AtomicBool,
    /// So many more requests are answered with 429.
    busy: AtomicU32,
    silent: AtomicBool,
}

impl State {
    fn etag(&self) -> &'static str {
        if self.changed.load(Ordering::Relaxed) { "\"two\"" } else { "\"one\"" }
    }
}

impl Origin {
    /// `parts`: it knows ranges.
    pub fn start(file: Vec<u8>, rate: u64, parts: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, due) = (AtomicU64::new(0), Mutex::new(Instant::now()));
        let (down, changed) = (AtomicBool::new(false), AtomicBool::new(false));
        let (busy, silent) = (AtomicU32::new(0), AtomicBool::new(false));
        let state = Arc::new(State { file, rate, parts, due, sent, down, changed, busy, silent });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || while answer(&stream, &state).unwrap_or(false) {});
            }
        });
        Self { address, state }
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://{}/files/{name}", self.address)
    }

    /// Bytes of bodies that were sent.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Answers 503 from now on, or no more; what is under way breaks.
    pub fn is_down(&self, down: bool) {
        self.state.down.store(down, Ordering::Relaxed);
    }

    /// Answers the next requests with 429, and that it may be asked again in a second.
    pub fn is_busy_for(&self, requests: u32) {
        self.state.busy.store(requests, Ordering::Relaxed);
    }

    /// Does not say how long the file is.
    pub fn hides_length(&self) {
        self.state.silent.store(true, Ordering::Relaxed);
    }

    /// The file is another version from now on; what is under way breaks.
    pub fn changes(&self) {
        self.state.changed.store(true, Ordering::Relaxed);
    }
}

/// One request; whether there may be another one.
fn answer(stream: &TcpStream, state: &State) -> std::io::Result<bool> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(false) };
    let (mut range, mut same, etag) = (None, true, state.etag());
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name {
            "range" => {
                let (from, last) = value.trim_start_matches("bytes=").split_once('-').unwrap();
                range = Some((from.parse::<usize>().unwrap(), last.parse::<usize>().ok()));
            }
            "if-range" => same = value == etag,
            _ => {}
        }
    }
    let mut out = stream;
    if state.down.load(Ordering::Relaxed) {
        out.write_all(b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let less = |count: u32| count.checked_sub(1);
    if state.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
        out.write_all(b"HTTP/1.1 429 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    if state.silent.load(Ordering::Relaxed) {
        out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        out.write_all(if first.starts_with("HEAD") { b"" } else { &state.file })?;
        out.shutdown(std::net::Shutdown::Both)?;
        return Ok(false);
    }
    let size = state.file.len();
    let part = range.filter(|_| state.parts && same);
    let (from, until) =
        part.map_or((0, size), |(from, last)| (from, last.map_or(size, |last| size.min(last + 1))));
    let status = if part.is_some() { "206 Partial Content" } else { "200 OK" };
    write!(out, "HTTP/1.1 {status}\r\nETag: {etag}\r\nContent-Length: {}\r\n", until - from)?;
    if part.is_some() {
        write!(out, "Content-Range: bytes {from}-{}/{size}\r\n", until - 1)?;
    }
    if state.parts {
        out.write_all(b"Accept-Ranges: bytes\r\n")?;
    }
    out.write_all(b"\r\n")?;
    if first.starts_with("HEAD") {
        return Ok(true);
    }
    for chunk in state.file[from..until].chunks(CHUNK) {
        if state.down.load(Ordering::Relaxed) || state.etag() != etag {
            return Ok(false);
        }
        let wait = {
            let mut due = state.due.lock().unwrap();
            *due =
                (*due).max(Instant::now()) + Duration::from_secs_f64(chunk.len() as f64 / state.rate as f64);
            due.saturating_duration_since(Instant::now())
        };
        thread::sleep(wait);
        out.write_all(chunk)?;
        state.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    Ok(true)
}
