//! `samara seed` and `samara get` find each other through opentracker over UDP, and it hears what they say.
//!
//! Debian's opentracker speaks IPv4 and serves only the infohashes in its whitelist. The test starts itself again below
//! `unshare --net`, where each has an address of its own.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::clients::{Running, inside_namespace, wait_for};
use e2e::{payload, samara};
use rustix::process::{Pid, Signal, kill_process};
use torrent::{Version, WireId};

const TRACKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 6969);
const SEED: &str = "10.77.0.2";
const LEECH: &str = "10.77.0.3";
const SIZE: usize = 5 * (1 << 20) + 3;

/// It leaves root's rights, and sees nothing but `folder`.
fn opentracker(folder: &Path, ids: &[WireId]) -> Result<Running> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let whitelist: Vec<String> = ids.iter().map(|id| id.to_string() + "\n").collect();
    std::fs::write(folder.join("whitelist"), whitelist.concat())?;
    let config = folder.join("conf");
    let root = folder.display();
    std::fs::write(
        &config,
        format!(
            "listen.tcp_udp {TRACKER}\naccess.whitelist /whitelist\ntracker.rootdir {root}\ntracker.user nobody\n"
        ),
    )?;
    Running::start(Command::new("opentracker").arg("-f").arg(config), folder.join("log"))
}

/// What the tracker counts for a swarm, bencoded: complete, downloaded, incomplete.
fn scrape(id: WireId) -> Result<String> {
    let Ok(mut stream) = TcpStream::connect(TRACKER) else { return Ok(String::new()) };
    write!(stream, "GET /scrape?info_hash=")?;
    for byte in id.0 {
        write!(stream, "%{byte:02x}")?;
    }
    write!(stream, " HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn seed_to_get(samara: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))?;
    let at = |name: &str| scratch.path().join(name);
    let (metainfo, bytes) = payload::of_one_file(Version::Hybrid, 15, SIZE)?;
    let ids = metainfo.wire_ids();
    let name = metainfo.name().to_owned();
    let url = format!("udp://{TRACKER}/announce");
    std::fs::write(at("bare.torrent"), metainfo.encode())?;
    std::fs::write(at("tracked.torrent"), metainfo.with_trackers(vec![vec![url.clone()]]).encode())?;
    std::fs::create_dir(at("seed"))?;
    std::fs::write(at("seed").join(&name), &bytes)?;
    let tracker = opentracker(&at("tracker"), &ids)?;

    // The seed hears of the tracker on its command line, the leecher in its torrent.
    let mut command = Command::new(samara);
    command.arg("seed").arg(at("bare.torrent")).arg("--data").arg(at("seed"));
    command.args(["--bind", SEED, "--tracker", &url]);
    let mut seed = Running::start(&mut command, at("seed.log"))?;
    for id in &ids {
        wait_for("the tracker knows the seed", &[&tracker, &seed], || {
            Ok(scrape(*id)?.contains("8:completei1e"))
        })?;
    }
    let mut command = Command::new(samara);
    command.arg("get").arg(at("tracked.torrent")).arg("-o").arg(at("leech")).args(["--bind", LEECH]);
    let mut leech = Running::start(&mut command, at("leech.log"))?;
    let mut ended = None;
    wait_for("the download", &[&tracker, &seed], || {
        ended = leech.child.try_wait()?;
        Ok(ended.is_some())
    })
    .with_context(|| leech.log())?;
    ensure!(ended.is_some_and(|status| status.success()), "{}", leech.log());
    ensure!(std::fs::read(at("leech").join(&name))? == bytes, "the bytes differ");

    // It left without waiting: only `stopped` is certain to have been heard.
    let pid = Pid::from_child(&seed.child);
    kill_process(pid, Signal::TERM)?;
    ensure!(seed.child.wait()?.success(), "{}", seed.log());
    for id in &ids {
        wait_for("the tracker hears that both have left", &[&tracker], || {
            let counts = scrape(*id)?;
            Ok(counts.contains("8:completei0e") && counts.contains("10:incompletei0e"))
        })?;
    }
    Ok(())
}

#[test]
fn seed_and_get_find_each_other_through_opentracker() -> Result<()> {
    let samara = samara::binary()?;
    let addresses = [*TRACKER.ip(), SEED.parse()?, LEECH.parse()?];
    let test = "seed_and_get_find_each_other_through_opentracker";
    if inside_namespace(test, &addresses, &["opentracker"])? {
        return seed_to_get(&samara);
    }
    Ok(())
}
