//! One seed and some leechers in one process over loopback: bytes per second and copies sent by the seed.
//!
//! `cargo run --release -p swarm --example throughput -- [MiB] [leechers] [seed's limit in MB/s, 0 for none] [folder]`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use swarm::{AddTorrent, Assume, Engine, EngineConfig};
use torrent::{Builder, RelPath, Version, piece_length_for};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: usize| arguments.get(at).map_or(Ok(or), |text| text.parse());
    let (size, leechers, limit) = (number(0, 1024)? << 20, number(1, 1)?, number(2, 0)? as u64 * 1_000_000);
    let parent = arguments.get(3).map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(parent)?;

    let bytes: Vec<u8> =
        (0..size as u64 / 8).flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let builder = Builder::new(Version::Hybrid, piece_length_for(size as u64))?;
    let mut hasher = builder.file_hasher(1);
    hasher.update(&bytes);
    let path = RelPath::parse("data")?;
    let metainfo = Arc::new(builder.build(vec![(path.clone(), hasher.finish())])?);
    let spec = |folder: PathBuf, assume, peers| AddTorrent {
        metainfo: metainfo.clone(),
        folder,
        layout: vec![path.clone()],
        journal: None,
        trackers: Vec::new(),
        assume,
        peers,
        web_seeds: Vec::new(),
    };

    let config =
        || EngineConfig { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..EngineConfig::default() };
    let from = Engine::start(EngineConfig { upload_limit: (limit > 0).then_some(limit), ..config() }).await?;
    let folder = scratch.path().join("seed");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("data"), &bytes)?;
    drop(bytes);
    let seed = from.add(spec(folder, Assume::Complete, Vec::new())).await?;

    let mut addresses = from.addresses().to_vec();
    let mut engines = Vec::new();
    for _ in 0..leechers {
        let engine = Engine::start(config()).await?;
        addresses.extend(engine.addresses());
        engines.push(engine);
    }
    let started = Instant::now();
    let mut handles = Vec::new();
    for (index, engine) in engines.iter().enumerate() {
        let folder = scratch.path().join(format!("leech-{index}"));
        handles.push(engine.add(spec(folder, Assume::Journal, addresses.clone())).await?);
    }
    for handle in &handles {
        handle.wait_complete().await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let copies = seed.stats().uploaded as f64 / size as f64;
    let wasted: u64 = handles.iter().map(|handle| handle.stats().wasted).sum();
    let rate = size as f64 / 1e6 / seconds;
    eprintln!(
        "{seconds:.2} s, {rate:.0} MB/s per leecher, {copies:.3} copies from the seed, {wasted} bytes wasted"
    );
    if limit > 0 {
        let ideal = size as f64 / limit as f64;
        eprintln!("ideal {ideal:.2} s, time / ideal {:.3}", seconds / ideal);
    }
    Ok(())
}
