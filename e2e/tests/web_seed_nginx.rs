//! `samara get` downloads from nginx as a web seed (BEP 19), with nothing else around.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::clients::is_installed;
use e2e::real::skip;

const PATIENCE: Duration = Duration::from_mins(1);
/// Files as they are in the wild: of many pieces, small, empty, with names that a URL cannot hold as they are.
const FILES: [(&str, usize); 5] = [
    ("a/model weights.bin", 9_000_001),
    ("a/ünï 100%?#.txt", 40_000),
    ("b/none", 0),
    ("b/one", 1),
    ("c", 2_097_152),
];

/// nginx, which ends with this.
struct Nginx {
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl Nginx {
    /// Serves `folder`/www with compression on, each connection at `rate` at most.
    fn start(folder: &Path, rate: &str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let here = folder.display();
        let config = format!(
            "user root; daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;\n\
             events {{}}\n\
             http {{\n access_log {here}/access.log;\n gzip on; gzip_types *; gzip_min_length 1;\n\
             server {{ listen 127.0.0.1:{port}; root {here}/www; limit_rate {rate}; }}\n}}\n"
        );
        std::fs::write(folder.join("nginx.conf"), config)?;
        let mut nginx = Self { child: None, folder: folder.to_owned(), port };
        nginx.run()?;
        Ok(nginx)
    }

    fn run(&mut self) -> Result<()> {
        let mut command = Command::new("nginx");
        command.arg("-c").arg(self.folder.join("nginx.conf")).arg("-p").arg(&self.folder);
        self.child = Some(command.stderr(Stdio::null()).spawn().context("nginx does not start")?);
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(started.elapsed() < PATIENCE, "nginx does not answer: {}", self.log("error.log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it with all its connections.
    fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // On SIGTERM nginx ends its workers with it; killed, it would leave them behind.
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )?;
        child.wait()?;
        Ok(())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

fn samara(args: &[&str], folder: &Path) -> Result<Command> {
    let mut command = Command::new(e2e::samara::binary()?);
    command.args(args).current_dir(folder);
    Ok(command)
}

fn ok(mut command: Command) -> Result<Output> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// Whether nginx is here and may run as it must; if not, that is said.
fn can_run(test: &str) -> Result<bool> {
    if is_installed("nginx") && rustix::process::geteuid().is_root() {
        return Ok(true);
    }
    skip(test, "root and nginx are needed")?;
    Ok(false)
}

/// A folder with www/tree, and the .torrent of the tree with nginx as its web seed.
fn served(folder: &Path, rate: &str) -> Result<Nginx> {
    for (seed, (path, size)) in FILES.iter().enumerate() {
        let path = folder.join("www/tree").join(path);
        std::fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        std::fs::write(path, e2e::payload::bytes(seed as u64, *size))?;
    }
    let nginx = Nginx::start(folder, rate)?;
    ok(samara(&["torrent", "create", "www/tree", "-w", &nginx.url(), "-o", "tree.torrent"], folder)?)?;
    Ok(nginx)
}

fn compare(folder: &Path, got: &str) -> Result<()> {
    for (path, _) in FILES {
        let (wanted, found) = (folder.join("www/tree").join(path), folder.join(got).join(path));
        ensure!(std::fs::read(wanted)? == std::fs::read(found)?, "{path} differs");
    }
    Ok(())
}

#[test]
fn a_hybrid_tree_comes_from_nginx_alone_and_by_ranges() -> Result<()> {
    if !can_run("a_hybrid_tree_comes_from_nginx_alone_and_by_ranges")? {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let nginx = served(scratch.path(), "0")?;
    ok(samara(&["get", "tree.torrent", "-o", "out"], scratch.path())?)?;
    compare(scratch.path(), "out")?;
    let log = nginx.log("access.log");
    ensure!(log.lines().all(|line| line.contains("\" 206 ")), "not all answers are ranges:\n{log}");
    let none = samara(&["get", "tree.torrent", "-o", "none", "--no-web-seeds"], scratch.path())?.output()?;
    ensure!(
        !none.status.success() && String::from_utf8_lossy(&none.stderr).contains("--web-seed"),
        "{none:?}"
    );
    Ok(())
}

#[test]
fn a_v1_file_comes_from_a_web_seed_that_is_named_on_the_command_line() -> Result<()> {
    if !can_run("a_v1_file_comes_from_a_web_seed_that_is_named_on_the_command_line")? {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let nginx = served(scratch.path(), "0")?;
    ok(samara(&["torrent", "create", "www/tree/c", "--v1", "-o", "c.torrent"], scratch.path())?)?;
    let url = format!("{}tree/c", nginx.url());
    ok(samara(&["get", "c.torrent", "-o", "out", "--web-seed", &url], scratch.path())?)?;
    ensure!(
        std::fs::read(scratch.path().join("out/c"))? == std::fs::read(scratch.path().join("www/tree/c"))?
    );
    Ok(())
}

#[test]
fn a_download_outlives_an_nginx_that_goes_and_comes_back() -> Result<()> {
    if !can_run("a_download_outlives_an_nginx_that_goes_and_comes_back")? {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let mut nginx = served(scratch.path(), "2m")?;
    let mut get =
        samara(&["get", "tree.torrent", "-o", "out"], scratch.path())?.stdout(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    nginx.stop()?;
    ensure!(get.try_wait()?.is_none(), "it was there before nginx went");
    std::thread::sleep(Duration::from_secs(1));
    nginx.run()?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = get.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            get.kill()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(status.success(), "{status}");
    compare(scratch.path(), "out")
}
