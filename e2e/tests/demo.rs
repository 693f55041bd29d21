//! `samara demo` in its variants: the whole flow, on this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::samara;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// A demo that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(3);

/// A finished demo.
struct Outcome {
    success: bool,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Result<Value> {
        ensure!(self.success, "the demo failed:\n{}\n{}", self.out, self.err);
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {}", self.out))
    }
}

fn demo(temp: &Path, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(samara::binary()?);
    command.arg("demo").args(args).env("TMPDIR", temp).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs a demo with a temporary folder of its own, of which nothing may be left.
async fn run(args: &[&str]) -> Result<Outcome> {
    let temp = TempDir::new()?;
    let output =
        tokio::time::timeout(PATIENCE, demo(temp.path(), args)?.output()).await.context("it hangs")??;
    let outcome = Outcome {
        success: output.status.success(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    };
    let left: Vec<_> = fs::read_dir(temp.path())?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}\n{}", outcome.err);
    Ok(outcome)
}

/// What every good report says: all nodes have it, one of them from the origin, the others from peers.
fn check(report: &Value, nodes: usize, bytes: u64, files: u64) {
    assert_eq!(report["verified"], true, "{report:#}");
    assert_eq!((&report["bytes"], &report["files"]), (&bytes.into(), &files.into()));
    let rows = report["nodes"].as_array().unwrap();
    assert_eq!(rows.len(), nodes);
    for row in rows {
        assert_eq!(row["verified"], true);
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
        let sum = row["originBytes"].as_u64().unwrap() + row["peerBytes"].as_u64().unwrap();
        assert!((bytes..=bytes + bytes / 10).contains(&sum), "{row}");
    }
    assert_eq!(
        rows.iter().filter(|row| row["originBytes"].as_u64() > Some(0)).count(),
        usize::from(bytes > 0)
    );
    assert!(report["originBytes"].as_f64().unwrap() <= 1.05 * bytes as f64, "{report:#}");
}

#[tokio::test]
async fn made_up_bytes() {
    let outcome = run(&["--nodes", "4", "--size", "9MiB", "--origin-rate", "0", "--json"]).await.unwrap();
    check(&outcome.json().unwrap(), 4, 9 << 20, 1);
}

#[tokio::test]
async fn for_people_it_is_a_table() {
    let outcome = run(&["--nodes", "2", "--size", "1M"]).await.unwrap();
    assert!(outcome.success, "{}", outcome.err);
    assert!(outcome.out.starts_with("NODE "), "{}", outcome.out);
    assert_eq!(outcome.out.matches("verified").count(), 2);
    assert!(
        outcome.out.contains("time/ideal") && outcome.out.contains("origin bytes/size 1.00"),
        "{}",
        outcome.out
    );
    assert!(!outcome.out.contains('\u{1b}') && !outcome.err.contains('\u{1b}'), "colours without a terminal");
    assert!(outcome.err.contains("(2/2)"), "{}", outcome.err);
}

#[tokio::test]
async fn a_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a file.bin");
    fs::write(&path, vec![7; 3 << 20]).unwrap();
    let kept = folder.path().join("kept");
    let args = ["--nodes", "2", "--json", "--keep", kept.to_str().unwrap(), path.to_str().unwrap()];
    let outcome = run(&args).await.unwrap();
    check(&outcome.json().unwrap(), 2, 3 << 20, 1);
    for node in ["node-1", "node-2"] {
        let bytes = fs::read(kept.join(node).join("datasets/default/demo/a file.bin")).unwrap();
        assert_eq!(bytes, fs::read(&path).unwrap());
    }
    let again = run(&args).await.unwrap();
    assert!(!again.success && again.err.contains("is not empty"), "{}", again.err);
}

#[tokio::test]
async fn a_folder() {
    let folder = TempDir::new().unwrap();
    let files: BTreeMap<&str, usize> =
        BTreeMap::from([("empty", 0), ("one", 1), ("sub/ä ö/ü#?%20.bin", 70_000), ("sub/two", 2 << 20)]);
    for (path, size) in &files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![1; *size]).unwrap();
    }
    let outcome = run(&["--nodes", "3", "--json", folder.path().to_str().unwrap()]).await.unwrap();
    check(&outcome.json().unwrap(), 3, files.values().sum::<usize>() as u64, 4);
}

#[tokio::test]
async fn a_folder_of_many_files() {
    let folder = TempDir::new().unwrap();
    for n in 0..300u32 {
        fs::write(folder.path().join(format!("{n}")), n.to_string()).unwrap();
    }
    let bytes = (0..300u32).map(|n| n.to_string().len() as u64).sum();
    let outcome = run(&["--nodes", "2", "--json", folder.path().to_str().unwrap()]).await.unwrap();
    check(&outcome.json().unwrap(), 2, bytes, 300);
}

/// Answers GET and HEAD with what is in `files`, one request per connection, until it is dropped.
async fn serve(files: BTreeMap<&'static str, Vec<u8>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, files.clone()));
        }
    });
    Ok(base)
}

async fn answer(stream: TcpStream, files: BTreeMap<&'static str, Vec<u8>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut line = first.clone();
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = files.get(path).map_or(("404 Not Found", &[][..]), |body| ("200 OK", body));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"1\"\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method == "GET" {
        stream.write_all(body).await?;
    }
    Ok(stream.shutdown().await?)
}

#[tokio::test]
async fn a_url() {
    let base = serve(BTreeMap::from([("/dir/file.bin", vec![3; 2 << 20])])).await.unwrap();
    let outcome = run(&["--nodes", "2", "--json", &format!("{base}/dir/file.bin")]).await.unwrap();
    check(&outcome.json().unwrap(), 2, 2 << 20, 1);
    let outcome = run(&["--nodes", "2", &format!("{base}/none")]).await.unwrap();
    assert!(!outcome.success && outcome.err.contains("404"), "{}", outcome.err);
}

#[tokio::test]
async fn a_manifest() {
    let base = serve(BTreeMap::from([("/a", vec![1; 100_000]), ("/b", vec![2; 1])])).await.unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("distribution.yaml");
    let manifest = format!(
        "apiVersion: samara.dev/v1alpha1\nkind: Distribution\nmetadata: {{name: models, namespace: team-a}}\nspec:\n  \
         className: fast\n  source:\n    http:\n      files:\n      - {{url: \"{base}/a\"}}\n      - {{url: \"{base}/b\", path: sub/b}}\n  \
         torrent: {{version: V1}}\n"
    );
    fs::write(&path, manifest).unwrap();
    let kept = folder.path().join("kept");
    let args = ["--nodes", "2", "--json", "--keep", kept.to_str().unwrap(), "-f", path.to_str().unwrap()];
    check(&run(&args).await.unwrap().json().unwrap(), 2, 100_001, 2);
    assert_eq!(fs::read(kept.join("node-2/datasets/team-a/models/sub/b")).unwrap(), [2]);
}

#[tokio::test]
async fn interrupted_it_leaves_nothing() {
    let temp = TempDir::new().unwrap();
    let args = ["--nodes", "2", "--size", "4MiB", "--origin-rate", "1M"];
    let mut child =
        demo(temp.path(), &args).unwrap().stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("the source is resolved") {
            break;
        }
    }
    // It is reading the origin now, for 4 seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    let ended = async {
        lines.into_inner().read_to_string(&mut rest).await.unwrap();
        child.wait().await.unwrap()
    };
    let status = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it ends soon");
    assert!(!status.success() && rest.contains("interrupted"), "{rest}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let temp = TempDir::new().unwrap();
    let mut child =
        demo(temp.path(), &["--nodes", "1", "--size", "1"]).unwrap().stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}
