//! A disk whose power can be cut.
//!
//! The image of the disk lies on a file system of its own, in memory. Freezing that one stops the loop device between two writes, so
//! that a plain copy of the image is a point in time; no file system with reflinks is needed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Holds the payload, twice what ext4 wants for itself, and is copied in tens of milliseconds.
const SIZE: u64 = 64 << 20;
/// Holds the image and its file system's own blocks.
const OUTER: u64 = 96 << 20;
/// Two more copies of the image: the one that is looked at and grows whole, and the one to go on from.
const MEMORY: &str = "size=320m";
/// A disk that is in use for longer is held by something that should have ended.
const BUSY: Duration = Duration::from_secs(10);

/// The disk, mounted, and its copies.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    device: PathBuf,
}

impl Disk {
    /// Makes it below an empty folder.
    pub fn make(folder: &Path) -> Result<Self> {
        run(
            "mount",
            [
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "-o".as_ref(),
                MEMORY.as_ref(),
                "tmpfs".as_ref(),
                folder.as_os_str(),
            ],
        )?;
        for name in ["outer", "disk", "cut"] {
            fs::create_dir(folder.join(name))?;
        }
        let mut disk = Self { folder: folder.to_owned(), device: PathBuf::new() };
        let outer = disk.at("outer.img");
        make_file_system(&outer, OUTER)?;
        mount(&outer, &disk.at("outer"))?;
        make_file_system(&disk.image(), SIZE)?;
        disk.start()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.at("disk")
    }

    /// Where the copy is mounted.
    pub fn cut_root(&self) -> PathBuf {
        self.at("cut")
    }

    /// An empty file system takes its place. Nobody may use it.
    pub fn replace_by_empty(&mut self) -> Result<()> {
        unmount(&self.root())?;
        make_file_system(&self.image(), SIZE)?;
        self.start()
    }

    /// The copy that was kept takes its place. Nobody may use it.
    pub fn replace_by_kept(&mut self) -> Result<()> {
        unmount(&self.root())?;
        copy(&self.at("kept.img"), &self.image())?;
        self.start()
    }

    /// Copies it as it is now; mounts the copy, which makes ext4 replay its journal.
    pub fn cut(&self) -> Result<()> {
        let frozen = Frozen::freeze(self.at("outer"))?;
        copy(&self.image(), &self.at("cut.img"))?;
        frozen.thaw()?;
        copy(&self.at("cut.img"), &self.at("kept.img"))?;
        mount(&self.at("cut.img"), &self.cut_root())
    }

    /// Unmounts the copy.
    pub fn put_cut_away(&self) -> Result<()> {
        unmount(&self.cut_root())
    }

    /// Returns when the kernel writes to the disk, or after `at_most`.
    pub async fn wait_for_writes(&self, at_most: Duration) -> Result<()> {
        let (start, before) = (Instant::now(), self.writes()?);
        while self.writes()? == before && start.elapsed() < at_most {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Write requests that the device has completed.
    fn writes(&self) -> Result<u64> {
        let name = self.device.file_name().context("a device has a name")?;
        let stat = fs::read_to_string(Path::new("/sys/block").join(name).join("stat"))?;
        Ok(stat.split_whitespace().nth(4).context("the device's stat has no writes")?.parse()?)
    }

    fn start(&mut self) -> Result<()> {
        mount(&self.image(), &self.root())?;
        let (mounts, root) = (fs::read_to_string("/proc/self/mounts")?, self.root());
        let line = mounts.lines().find(|line| line.split(' ').nth(1).map(Path::new) == Some(&root));
        self.device = line.and_then(|line| line.split(' ').next()).context("the disk is not mounted")?.into();
        Ok(())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn image(&self) -> PathBuf {
        self.at("outer/image")
    }
}

/// A file system to which nobody can write. Left so, whoever writes to it hangs.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(root: PathBuf) -> Result<Self> {
        run("fsfreeze", ["--freeze".as_ref(), root.as_os_str()])?;
        Ok(Self(root))
    }

    fn thaw(self) -> Result<()> {
        run("fsfreeze", ["--unfreeze".as_ref(), self.0.as_os_str()])?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The error that led here is the one to tell.
        drop(run("fsfreeze", ["--unfreeze".as_ref(), self.0.as_os_str()]));
    }
}

/// A new image: the loop device of an old one may still be going away.
fn make_file_system(image: &Path, size: u64) -> Result<()> {
    if image.exists() {
        fs::remove_file(image)?;
    }
    File::create(image)?.set_len(size)?;
    run("mkfs.ext4", ["-q".as_ref(), image.as_os_str()])
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run("cp", ["--sparse=auto".as_ref(), "--remove-destination".as_ref(), from.as_os_str(), to.as_os_str()])
}

fn mount(image: &Path, at: &Path) -> Result<()> {
    run("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), at.as_os_str()])
}

/// Waits for those who still close their files: the engine's last threads, and programs that another thread is just starting.
fn unmount(at: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        match run("umount", [at.as_os_str()]) {
            Err(_) if start.elapsed() < BUSY => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
}

fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a OsStr>) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(args).output().with_context(|| format!("{program}: cannot start"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
