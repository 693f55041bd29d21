//! rTorrent, aria2 and Transmission download from our engine and upload to it.
//!
//! Each client gets an address of its own in a network namespace (Transmission never dials 127/8): the test starts itself
//! again below `unshare --net`. Hybrids for rTorrent; aria2 1.36 and Transmission 3.00 cannot read them and get v1.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::clients::{Client, Job, PORT, inside_namespace};
use swarm::{AddTorrent, Assume, Engine, EngineConfig};
use torrent::{Metainfo, RelPath};

const PATIENCE: Duration = Duration::from_secs(90);
const SIZE: usize = 12 * (1 << 20) + 3;
const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

async fn run(client: Client, uploads: bool) -> Result<()> {
    let (metainfo, bytes) = e2e::payload::of_one_file(client.version(), 9, SIZE)?;
    let metainfo = Arc::new(metainfo);
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("it.torrent");
    // rTorrent refuses a torrent without a tracker. Nobody listens there: we dial.
    let trackers = [format!("http://{THEIRS}:1/announce")];
    std::fs::write(&file, Metainfo::clone(&metainfo).with_trackers(vec![trackers.to_vec()]).encode())?;
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    std::fs::create_dir_all(&ours)?;
    std::fs::create_dir_all(&theirs)?;
    std::fs::write(if uploads { &theirs } else { &ours }.join(metainfo.name()), &bytes)?;
    let own = scratch.path().join("own");
    let running = client.start(&Job {
        address: THEIRS.into(),
        torrent: &file,
        folder: &theirs,
        scratch: &own,
        python: Path::new(""),
        trackers: &trackers,
        network: None,
    })?;

    let listen = vec![SocketAddr::from((OURS, 6881))];
    let engine = Engine::start(EngineConfig { listen, ..EngineConfig::default() }).await?;
    let spec = AddTorrent {
        metainfo: metainfo.clone(),
        folder: ours.clone(),
        layout: vec![RelPath::parse(metainfo.name())?],
        journal: None,
        trackers: vec![],
        assume: if uploads { Assume::Journal } else { Assume::Complete },
        peers: vec![SocketAddr::from((THEIRS, PORT))],
        web_seeds: vec![],
    };
    let handle = engine.add(spec).await?;
    let target = if uploads { ours } else { theirs }.join(metainfo.name());
    let started = Instant::now();
    while std::fs::read(&target).ok().as_ref() != Some(&bytes) {
        ensure!(started.elapsed() < PATIENCE, "not complete: {:?}\n{}", handle.stats(), running.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(handle.stats().wasted == 0, "{:?}", handle.stats());
    engine.shutdown().await;
    Ok(())
}

fn both_ways(test: &str, client: Client) -> Result<()> {
    let programs: Vec<&str> = client.program().into_iter().collect();
    if !inside_namespace(test, &[OURS, THEIRS], &programs)? {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    for uploads in [true, false] {
        let what = if uploads { "uploading to us" } else { "downloading from us" };
        runtime.block_on(run(client, uploads)).with_context(|| format!("{client:?} {what}"))?;
    }
    Ok(())
}

#[test]
fn rtorrent_goes_both_ways_with_a_hybrid() -> Result<()> {
    both_ways("rtorrent_goes_both_ways_with_a_hybrid", Client::Rtorrent)
}

#[test]
fn aria2_goes_both_ways_with_v1() -> Result<()> {
    both_ways("aria2_goes_both_ways_with_v1", Client::Aria2)
}

#[test]
fn transmission_goes_both_ways_with_v1() -> Result<()> {
    both_ways("transmission_goes_both_ways_with_v1", Client::Transmission)
}
