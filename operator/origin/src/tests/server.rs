//! An HTTP server that says exactly what it is told to, true or not.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A reply, byte for byte.
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) after: After,
}

/// What happens once the body is sent.
pub(crate) enum After {
    Close,
    /// Go on with single bytes, ten a second.
    Drip,
    /// Go on with chunks for ever.
    Flood,
}

impl Reply {
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
        for (name, value) in headers {
            writeln!(head, "{name}: {value}\r").unwrap();
        }
        head.push_str("\r\n");
        Self { head, body: body.to_vec(), after: After::Close }
    }

    /// With its true length.
    pub(crate) fn sized(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len().to_string();
        let mut all = vec![("Content-Length", length.as_str())];
        all.extend_from_slice(headers);
        Self::new(status, &all, body)
    }

    pub(crate) fn then(mut self, after: After) -> Self {
        self.after = after;
        self
    }
}

/// A request as it came, head only.
#[derive(Clone)]
pub(crate) struct Request(pub(super) String);

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.0.split(' ').next().unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.0.split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(handler, None).await
    }

    pub(crate) async fn start_with(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, handler) = (Arc::clone(&requests), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, handler, tls) = (Arc::clone(&seen), Arc::clone(&handler), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &seen, &*handler).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &seen, &*handler).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    seen: &Mutex<Vec<Request>>,
    handler: &(dyn Fn(&Request) -> Reply + Send + Sync),
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let request = Request(String::from_utf8(head).unwrap());
    seen.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    // A client that hangs up in the middle is what several tests want.
    if stream.write_all(reply.head.as_bytes()).await.is_err() {
        return;
    }
    if request.method() != "HEAD" && stream.write_all(&reply.body).await.is_err() {
        return;
    }
    match reply.after {
        After::Close => {}
        After::Drip => {
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        After::Flood => while stream.write_all(b"4\r\nmore\r\n").await.is_ok() {},
    }
    drop(stream.shutdown().await);
}
