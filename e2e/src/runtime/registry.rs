//! A registry that answers as it is told, in HTTP/1.1 by hand: a library would not let it stop in the middle, or reset a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::image::{Image, Object};
use super::log::{Log, Request};

/// Longest request head.
const MAX_HEAD: u64 = 64 << 10;

/// What a client shows that has asked for a token.
const TOKEN: &str = "Bearer t";
/// `me:secret`: who a token is for that is not for everybody.
pub const LOGIN: (&str, &str) = ("me", "secret");
/// The same, as it is shown.
const BASIC: &str = "Basic bWU6c2VjcmV0";

/// How requests for an object are answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// As a registry does.
    Serve,
    /// With this status and no body.
    Status(u16),
    /// With so many bytes, then the end of the stream (FIN).
    CloseAfter(usize),
    /// With so many bytes, then a reset (RST).
    ResetAfter(usize),
    /// With one bit of the last byte flipped.
    FlipBit,
    /// After so long without a byte.
    Late(Duration),
    /// With the whole, whatever range was asked for.
    IgnoreRange,
}

/// A registry that serves until it is dropped.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    role: &'static str,
    log: Log,
    objects: Mutex<HashMap<String, (String, Object)>>,
    rules: Mutex<Rules>,
}

#[derive(Debug)]
struct Rules {
    default: Answer,
    /// What every request for an object is answered that does not show the token.
    challenge: Option<String>,
    /// Whether only who is [`LOGIN`] gets a token.
    needs_login: bool,
    /// By object, and whether a range is asked for.
    of: HashMap<(String, bool), Answer>,
}

impl Registry {
    /// Listens on this port of 127.0.0.1 and writes its requests into `log` under the name `role`.
    pub async fn start(role: &'static str, port: u16, log: &Log) -> Result<Self> {
        let listener = super::listen(port).await?;
        let rules = Rules { default: Answer::Serve, challenge: None, needs_login: false, of: HashMap::new() };
        let shared =
            Arc::new(Shared { role, log: log.clone(), objects: Mutex::default(), rules: Mutex::new(rules) });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A client that goes away ends its connection with an error, and that is all.
                connections.spawn(async move { drop(shared.connection(stream).await) });
            }
        });
        Ok(Self { shared, task })
    }

    /// Has this image from now on.
    pub fn add(&self, image: &Image) {
        self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner).extend(image.paths());
    }

    /// What it answers to everything that nothing else is said of.
    pub fn default(&self, answer: Answer) {
        self.shared.rules().default = answer;
    }

    /// Wants a token from now on, which it gives to whoever asks.
    pub fn need_token(&self) {
        let realm = format!("http://127.0.0.1:{}/token", super::UPSTREAM);
        self.challenge(&format!("Bearer realm=\"{realm}\",service=\"s\""));
    }

    /// Wants a token from now on, which it gives to [`LOGIN`] alone. Requests for it are written down too.
    pub fn need_login(&self) {
        self.need_token();
        self.shared.rules().needs_login = true;
    }

    /// Answers with this challenge from now on who does not show the token.
    pub fn challenge(&self, challenge: &str) {
        self.shared.rules().challenge = Some(challenge.to_owned());
    }

    /// What it answers when an object is asked for as a whole.
    pub fn whole(&self, object: &str, answer: Answer) {
        self.shared.rules().of.insert((object.into(), false), answer);
    }

    /// What it answers when a range of an object is asked for.
    pub fn range(&self, object: &str, answer: Answer) {
        self.shared.rules().of.insert((object.into(), true), answer);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn give_token(stream: &mut TcpStream) -> std::io::Result<bool> {
    let body = r#"{"token":"t"}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(true)
}

async fn ask_for_token(challenge: &str, stream: &mut TcpStream) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(true)
}

fn opens(challenge: &str, shown: Option<&str>) -> bool {
    shown == Some(if challenge.starts_with("Basic") { BASIC } else { TOKEN })
}

struct Head {
    method: String,
    path: String,
    range: Option<String>,
    authorization: Option<String>,
}

impl Shared {
    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let Some(head) = read_head(&mut stream).await? else {
                // A TLS greeting: newer runtimes try that first, and go on in plain HTTP after this.
                return stream
                    .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    .await;
            };
            let challenge = self.rules().challenge.clone();
            let shown = head.authorization.as_deref();
            let challenge = challenge.filter(|challenge| !opens(challenge, shown));
            let goes_on = if head.path.starts_with("/token") {
                self.token(&head, stream.get_mut()).await?
            } else if let Some(challenge) = challenge {
                ask_for_token(&challenge, stream.get_mut()).await?
            } else {
                self.answer(&head, stream.get_mut()).await?
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// A token, for whom it is.
    async fn token(&self, head: &Head, stream: &mut TcpStream) -> std::io::Result<bool> {
        if !self.rules().needs_login {
            return give_token(stream).await;
        }
        if head.method != "GET" {
            // As those that know no OAuth 2 do; the form that is sent along is not read.
            self.note(head, "token", 405);
            let no = b"HTTP/1.1 405 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            return stream.write_all(no).await.map(|()| false);
        }
        if head.authorization.as_deref() != Some(BASIC) {
            return self.status(head, "token", 401, stream).await;
        }
        self.note(head, "token", 200);
        give_token(stream).await
    }

    /// Answers, and whether the connection goes on.
    async fn answer(&self, head: &Head, stream: &mut TcpStream) -> std::io::Result<bool> {
        let path = head.path.split('?').next().unwrap_or_default().trim_start_matches("/v2/").to_owned();
        let found = self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        let name = found.as_ref().map_or(path, |(name, _)| name.clone());
        let rule = {
            let rules = self.rules();
            rules.of.get(&(name.clone(), head.range.is_some())).copied().unwrap_or(rules.default)
        };
        let Some((_, object)) = found else { return self.status(head, &name, 404, stream).await };
        match rule {
            Answer::Status(status) => return self.status(head, &name, status, stream).await,
            Answer::Late(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        let from =
            head.range.as_deref().filter(|_| !matches!(rule, Answer::IgnoreRange)).and_then(range_start);
        let mut body = object.bytes.slice(from.unwrap_or(0).min(object.bytes.len())..);
        if matches!(rule, Answer::FlipBit) {
            body = flipped(&body);
        }
        let status = if from.is_some() { 206 } else { 200 };
        self.note(head, &name, status);
        let content_range = from.map(|from| {
            let length = object.bytes.len();
            format!("Content-Range: bytes {from}-{}/{length}\r\n", length - 1)
        });
        let text = format!(
            "HTTP/1.1 {status} OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n{}\r\n",
            object.media_type,
            body.len(),
            object.digest(),
            content_range.unwrap_or_default(),
        );
        stream.write_all(text.as_bytes()).await?;
        if head.method == "HEAD" {
            return Ok(true);
        }
        send(stream, &body, rule).await
    }

    async fn status(
        &self,
        head: &Head,
        name: &str,
        status: u16,
        stream: &mut TcpStream,
    ) -> std::io::Result<bool> {
        self.note(head, name, status);
        stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
        Ok(true)
    }

    fn note(&self, head: &Head, object: &str, status: u16) {
        let (role, method, range) = (self.role, head.method.as_str(), head.range.as_deref());
        let shown = head.authorization.as_deref();
        self.log.add(&Request { role, method, object, range, shown, status });
    }
}

/// Sends a body as the rule wants it; answers whether the connection goes on.
async fn send(stream: &mut TcpStream, body: &Bytes, rule: Answer) -> std::io::Result<bool> {
    match rule {
        Answer::CloseAfter(count) => {
            stream.write_all(&body[..count]).await?;
            stream.shutdown().await?;
            Ok(false)
        }
        Answer::ResetAfter(count) => {
            stream.write_all(&body[..count]).await?;
            // Both sides drop what is unread when a reset comes: let the bytes be read first.
            tokio::time::sleep(Duration::from_millis(300)).await;
            rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
            Ok(false)
        }
        _ => {
            stream.write_all(body).await?;
            Ok(true)
        }
    }
}

fn flipped(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

fn range_start(range: &str) -> Option<usize> {
    range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
}

/// None for what is no HTTP.
async fn read_head(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Head>> {
    let mut lines = Vec::new();
    let mut left = MAX_HEAD;
    loop {
        let mut line = Vec::new();
        let read = (&mut *stream).take(left).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= read as u64;
        let Ok(line) = String::from_utf8(line) else { return Ok(None) };
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line);
        if !lines[0].contains("HTTP/1.1") {
            return Ok(None);
        }
    }
    let mut words = lines[0].split(' ');
    let (method, path) = (words.next().unwrap_or_default().into(), words.next().unwrap_or_default().into());
    let header = |wanted: &str| {
        lines.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let (range, authorization) = (header("range"), header("authorization"));
    Ok(Some(Head { method, path, range, authorization }))
}
