//! The least that a download can cost: bytes from a socket, SHA-256 of them, a file. No protocol, one thread, one buffer.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use sha2::{Digest as _, Sha256};

/// Read, hashed and written at a time: it stays in the processor's cache meanwhile.
const CHUNK: usize = 256 * 1024;
/// The end of the head of an HTTP answer.
const END: &[u8] = b"\r\n\r\n";

/// GET a path of a server into a file, and print the SHA-256.
#[derive(Parser)]
struct Cli {
    server: SocketAddr,
    path: String,
    output: PathBuf,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut stream = TcpStream::connect(cli.server)?;
    write!(stream, "GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", cli.path, cli.server)?;
    let (mut file, mut hash, mut chunk) = (File::create(&cli.output)?, Sha256::new(), vec![0; CHUNK]);
    let (mut from, mut filled) = head(&mut stream, &mut chunk)?;
    while filled > 0 {
        hash.update(&chunk[from..filled]);
        file.write_all(&chunk[from..filled])?;
        (from, filled) = (0, stream.read(&mut chunk)?);
    }
    // As a download does that says that it is done.
    file.sync_data()?;
    let mut out = std::io::stdout();
    for byte in hash.finalize() {
        write!(out, "{byte:02x}")?;
    }
    Ok(writeln!(out)?)
}

/// Reads the head of the answer; says where the body begins in `chunk`, and where it ends so far.
fn head(stream: &mut TcpStream, chunk: &mut [u8]) -> Result<(usize, usize)> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut chunk[filled..])?;
        ensure!(read > 0, "the answer has no end of a head in its first {filled} bytes");
        filled += read;
        let end = chunk[..filled].windows(END.len()).position(|window| window == END);
        if let Some(end) = end {
            let line = String::from_utf8_lossy(&chunk[..end]).lines().next().unwrap_or_default().to_owned();
            let status = line.split(' ').nth(1).context("no status in the answer")?;
            ensure!(status == "200", "the server says {line}");
            return Ok((end + END.len(), filled));
        }
    }
}
