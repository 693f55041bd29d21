//! The HTTP origin of the end-to-end tests, as a process that can live in a network namespace.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

#[derive(Parser)]
enum Command {
    /// Serve files and faults that tests set over the control socket.
    Serve {
        /// Address and port of HTTP.
        #[arg(long)]
        listen: SocketAddr,
        /// Path of the Unix socket to make.
        #[arg(long)]
        control: PathBuf,
    },
    /// Read a plain http URL to its end and throw it away: the bar that distributions are measured against.
    Get {
        /// `http://address[:port]/path`.
        url: String,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Serve { listen, control } => {
            tokio::runtime::Runtime::new()?.block_on(e2e::origin::server::run(listen, &control))
        }
        Command::Get { url } => get(&url),
    }
}

fn get(url: &str) -> Result<()> {
    let rest = url.strip_prefix("http://").context("only http:// URLs")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.into() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address).with_context(|| address.clone())?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut chunk = vec![0; 256 * 1024];
    let first = stream.read(&mut chunk)?;
    if !chunk[..first].starts_with(b"HTTP/1.1 200") {
        bail!("{}", String::from_utf8_lossy(&chunk[..first]));
    }
    while stream.read(&mut chunk)? > 0 {}
    Ok(())
}
