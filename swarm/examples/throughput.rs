//! One seed and some leechers in one process over loopback: bytes per second and copies sent by the seed.
//!
//! `cargo run --release -p swarm --example throughput -- [MiB] [leechers] [seed's limit in MB/s, 0 for none] [folder]`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use swarm::{AddTorrent, Assume, Engine, EngineConfig};
use torrent::{Builder, Metainfo, RelPath, Version, piece_length_for};

/// The only file.
const FILE: &str = "data";

type Failure = Box<dyn std::error::Error>;

/// What the command line says.
struct Shape {
    /// Bytes.
    size: usize,
    leechers: usize,
    /// Bytes per second that the seed sends at most.
    limit: Option<u64>,
    /// Where the files go.
    parent: PathBuf,
}

impl Shape {
    fn read() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let number = |at: usize, or: usize| arguments.get(at).map_or(Ok(or), |text| text.parse());
        let limit = number(2, 0)? as u64 * 1_000_000;
        Ok(Self {
            size: number(0, 1024)? << 20,
            leechers: number(1, 1)?,
            limit: Some(limit).filter(|limit| *limit > 0),
            parent: arguments.get(3).map_or_else(std::env::temp_dir, PathBuf::from),
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let shape = Shape::read()?;
    let scratch = tempfile::tempdir_in(&shape.parent)?;
    let folder = scratch.path().join("seed");
    std::fs::create_dir(&folder)?;
    let metainfo = payload(&folder, shape.size)?;

    let from = Engine::start(EngineConfig { upload_limit: shape.limit, ..config() }).await?;
    let seed = from.add(spec(&metainfo, folder, Assume::Complete, Vec::new())?).await?;
    let mut addresses = from.addresses().to_vec();
    let mut engines = Vec::new();
    for _ in 0..shape.leechers {
        let engine = Engine::start(config()).await?;
        addresses.extend(engine.addresses());
        engines.push(engine);
    }
    let started = Instant::now();
    let mut handles = Vec::new();
    for (index, engine) in engines.iter().enumerate() {
        let folder = scratch.path().join(format!("leech-{index}"));
        handles.push(engine.add(spec(&metainfo, folder, Assume::Journal, addresses.clone())?).await?);
    }
    for handle in &handles {
        handle.wait_complete().await;
    }
    let wasted = handles.iter().map(|handle| handle.stats().wasted).sum();
    report(&shape, started.elapsed().as_secs_f64(), seed.stats().uploaded, wasted);
    Ok(())
}

/// Writes a file of so many bytes, and makes the torrent of it.
fn payload(folder: &Path, size: usize) -> Result<Arc<Metainfo>, Failure> {
    let bytes: Vec<u8> =
        (0..size as u64 / 8).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    std::fs::write(folder.join(FILE), &bytes)?;
    let builder = Builder::new(Version::Hybrid, piece_length_for(size as u64))?;
    let mut hasher = builder.file_hasher(1);
    hasher.update(&bytes);
    Ok(Arc::new(builder.build(vec![(RelPath::parse(FILE)?, hasher.finish())])?))
}

fn config() -> EngineConfig {
    EngineConfig { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..EngineConfig::default() }
}

fn spec(
    metainfo: &Arc<Metainfo>,
    folder: PathBuf,
    assume: Assume,
    peers: Vec<SocketAddr>,
) -> Result<AddTorrent, Failure> {
    Ok(AddTorrent {
        metainfo: metainfo.clone(),
        folder,
        layout: vec![RelPath::parse(FILE)?],
        journal: None,
        trackers: Vec::new(),
        assume,
        peers,
        web_seeds: Vec::new(),
    })
}

fn report(shape: &Shape, seconds: f64, uploaded: u64, wasted: u64) {
    let copies = uploaded as f64 / shape.size as f64;
    let rate = shape.size as f64 / 1e6 / seconds;
    eprintln!(
        "{seconds:.2} s, {rate:.0} MB/s per leecher, {copies:.3} copies from the seed, {wasted} bytes wasted"
    );
    if let Some(limit) = shape.limit {
        let ideal = shape.size as f64 / limit as f64;
        eprintln!("ideal {ideal:.2} s, time / ideal {:.3}", seconds / ideal);
    }
}
