//! A node: a network and a mount namespace of its own with containerd, kubelet and kube-proxy in it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::cgroup::Cgroup;
use super::net::{Namespace, kill_all};
use super::node_files::{SOCKET, configure, mount_script};
use super::process::{COMMAND_TIMEOUT, Daemon, Output, line, output, run, until};
use super::slot::Slot;
use xtask::tools::Tools;

/// containerd answers within a second; beside a compiler it may take several.
const RUNTIME_TIMEOUT: Duration = Duration::from_mins(1);

/// A node of the cluster. Numbers start at 1; node 1's name is `node1`.
#[derive(Debug)]
pub struct Node {
    slot: Arc<Slot>,
    tools: Tools,
    namespace: Namespace,
    /// Its number, which its name and address carry.
    pub number: usize,
    holder: Option<Daemon>,
    runtime: Option<Daemon>,
    daemons: Vec<Daemon>,
}

impl Node {
    /// Makes the node's folders, network and, with `data_disk`, a disk of that many bytes for the data root.
    pub async fn create(
        slot: &Arc<Slot>,
        tools: &Tools,
        number: usize,
        data_disk: Option<u64>,
    ) -> Result<Self> {
        let suffix = format!("n{number}");
        let namespace = Namespace::create(slot, &suffix, slot.node(number)).await?;
        line(&format!("ip route replace {} via {}", slot.pods(number), slot.node(number))).await?;
        for key in ["ipv4/ip_forward", "ipv4/conf/all/route_localnet"] {
            run({
                let mut command = namespace.command("sh");
                command.args(["-c", &format!("echo 1 > /proc/sys/net/{key}")]);
                command
            })
            .await?;
        }
        let node = Self {
            slot: slot.clone(),
            tools: tools.clone(),
            namespace,
            number,
            holder: None,
            runtime: None,
            daemons: Vec::new(),
        };
        if let Some(bytes) = data_disk {
            let image = node.dir().join("data.img");
            fs::create_dir_all(node.dir())?;
            fs::File::create(&image)?.set_len(bytes)?;
            line(&format!("mkfs.ext4 -q -F -m 0 {}", image.display())).await?;
        }
        configure(slot, number)?;
        Ok(node)
    }

    /// `node<number>`.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Its InternalIP.
    pub fn address(&self) -> Ipv4Addr {
        self.slot.node(self.number)
    }

    /// Its network, for programs that are to run in it with the machine's files.
    pub fn network(&self) -> &Namespace {
        &self.namespace
    }

    fn dir(&self) -> PathBuf {
        self.slot.node_dir(self.number)
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::of_node(&self.slot, self.number)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.slot.logs().join(format!("{}-{name}.log", self.name()))
    }

    /// Turns the power on: namespaces, runtime, images, kubelet, proxy. It does not wait for the node to be Ready.
    pub async fn start(&mut self, images: &[PathBuf]) -> Result<()> {
        if self.holder.is_some() {
            bail!("{} is on already", self.name());
        }
        self.cgroup().create()?;
        self.mount().await.with_context(|| format!("mounts of {}", self.name()))?;
        self.start_runtime().await?;
        for image in images {
            self.import_image(image).await?;
        }
        self.start_kubelet()?;
        self.spawn("kube-proxy", &[format!("--config={}", self.dir().join("proxy.json").display())])
    }

    /// Starts the mount namespace's first process, which keeps it.
    async fn mount(&mut self) -> Result<()> {
        let script = self.dir().join("mount.sh");
        let ready = self.dir().join("mounted");
        fs::write(&script, mount_script(&self.dir(), &self.tools, &ready))?;
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let mut command = self.namespace.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-e"]).arg(script);
        let mut holder = Daemon::spawn(command, &self.log("mounts"))?;
        fs::write(self.dir().join("holder"), holder.pid().to_string())?;
        until("mounting", COMMAND_TIMEOUT, || {
            let state = holder.check();
            let ready = ready.exists();
            async move { state.map(|()| ready.then_some(())) }
        })
        .await?;
        self.holder = Some(holder);
        Ok(())
    }

    async fn start_runtime(&mut self) -> Result<()> {
        let log = self.log("containerd");
        let command = self.command("containerd")?;
        self.runtime = Some(Daemon::spawn(command, &log)?);
        until("containerd", RUNTIME_TIMEOUT, || async {
            let mut command = self.command("ctr")?;
            command.args(["-a", SOCKET, "version"]);
            Ok(output(command, COMMAND_TIMEOUT).await?.success.then_some(()))
        })
        .await
        .with_context(|| format!("see {}", log.display()))
    }

    /// Ends containerd as a crash would, and starts it again. Containers run on.
    pub async fn restart_runtime(&mut self) -> Result<()> {
        if let Some(mut runtime) = self.runtime.take() {
            runtime.kill();
        }
        self.start_runtime().await
    }

    /// A connection to the node's containerd.
    pub async fn runtime(&self) -> Result<runtime::Runtime> {
        Ok(runtime::Runtime::connect(&self.path(SOCKET)?).await?)
    }

    /// What containerd has written down.
    pub fn runtime_log(&self) -> Result<String> {
        let log = self.log("containerd");
        fs::read_to_string(&log).with_context(|| log.display().to_string())
    }

    fn spawn(&mut self, component: &str, args: &[String]) -> Result<()> {
        let mut command = self.command(self.tools.path("hyperkube"))?;
        command.arg(component).args(args);
        self.daemons.push(Daemon::spawn(command, &self.log(component))?);
        Ok(())
    }

    /// Starts the kubelet, for example after [`Node::stop_kubelet`].
    pub fn start_kubelet(&mut self) -> Result<()> {
        let dir = self.dir();
        self.spawn(
            "kubelet",
            &[
                format!("--config={}", dir.join("kubelet.json").display()),
                format!(
                    "--kubeconfig={}",
                    self.slot.dir.join(format!("{}.kubeconfig", self.name())).display()
                ),
                format!("--hostname-override={}", self.name()),
                format!("--node-ip={}", self.address()),
            ],
        )
    }

    /// Starts the kubelet anew with these fields of its configuration as well; pods that run go on.
    pub fn change_kubelet(&mut self, fields: &serde_json::Value) -> Result<()> {
        let path = self.dir().join("kubelet.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        if let (Some(config), Some(fields)) = (config.as_object_mut(), fields.as_object()) {
            config.extend(fields.clone());
        }
        self.stop_kubelet()?;
        fs::write(&path, config.to_string())?;
        self.start_kubelet()
    }

    /// Ends the kubelet and leaves its pods running: to the cluster the node is dead, to the swarm it is alive.
    pub fn stop_kubelet(&mut self) -> Result<()> {
        let marker = self.dir().join("kubelet.json").display().to_string();
        kill_all("kubelet", || {
            let members = self.namespace.members();
            members.into_iter().filter(|pid| command_line(*pid).contains(&marker)).collect()
        })
    }

    /// Pulls the power plug: every process of the node is gone at once, its disks stay as they are.
    pub fn kill(&mut self) -> Result<()> {
        kill_all(&self.name(), || {
            let mut pids = self.namespace.members();
            pids.extend(self.cgroup().members());
            pids
        })?;
        self.reap();
        self.cgroup().remove()
    }

    /// Takes the exit status of what the node had running, so that no zombie stays.
    pub(super) fn reap(&mut self) {
        let daemons = self.daemons.drain(..).chain(self.runtime.take());
        for mut daemon in daemons.chain(self.holder.take()) {
            daemon.kill();
        }
    }

    /// Cuts the node off the network (`true`) or lets it back in.
    pub async fn cut_network(&self, cut: bool) -> Result<()> {
        self.namespace.cut(cut).await
    }

    /// Limits what the node may send and receive, in bytes per second each; `None` is without limit.
    pub async fn limit_bandwidth(&self, send: Option<u64>, receive: Option<u64>) -> Result<()> {
        self.namespace.limit(send, receive).await
    }

    /// `program` in the node's namespaces: its mounts, its network, the machine's programs.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let Some(holder) = &self.holder else { bail!("{} is off", self.name()) };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace.path().display()))
            .arg(format!("--mount=/proc/{}/ns/mnt", holder.pid()))
            .arg("--")
            .arg(program);
        Ok(command)
    }

    /// Runs `program` in the node's namespaces; at most two minutes.
    pub async fn exec(&self, program: &str, args: &[&str]) -> Result<Output> {
        let mut command = self.command(program)?;
        command.args(args);
        output(command, COMMAND_TIMEOUT).await
    }

    /// Runs containerd's `ctr -n k8s.io` with `args`.
    pub async fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command("ctr")?;
        command.args(["-a", SOCKET, "-n", "k8s.io"]).args(args);
        run(command).await
    }

    /// Gives the node's runtime the images of an OCI archive.
    pub async fn import_image(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("the archive's path is not UTF-8")?;
        self.ctr(&["images", "import", archive]).await.map(drop)
    }

    /// A hosts file for the node's runtime, which reads it at each pull: images whose names begin with `name` are at `url`.
    pub(super) fn name_registry(&self, name: &str, url: &str) -> Result<()> {
        let path = self.dir().join("etc-containerd/certs.d").join(name).join("hosts.toml");
        self.slot.write(&path, format!("server = \"{url}\"\n"))
    }

    /// Where the node's `path` is for this process, whatever is mounted on the node.
    /// Absolute symbolic links lead out of it; relative ones are followed as on the node.
    pub fn path(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let Some(holder) = &self.holder else { bail!("{} is off", self.name()) };
        let path = path.as_ref();
        Ok(PathBuf::from(format!("/proc/{}/root", holder.pid())).join(path.strip_prefix("/").unwrap_or(path)))
    }

    /// A file of the node.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = self.path(path)?;
        fs::read(&path).with_context(|| format!("{} on {}", path.display(), self.name()))
    }

    /// The SHA-256 of a file of the node, in hexadecimal.
    pub async fn sha256(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = self.path(path)?;
        let what = format!("{} on {}", path.display(), self.name());
        tokio::task::spawn_blocking(move || crate::payload::sha256_file(&path)).await?.context(what)
    }

    /// Bytes that `path` and everything below it take on the node's disk; 0 if it does not exist.
    pub async fn disk_usage(&self, path: impl AsRef<Path>) -> Result<u64> {
        self.sum(path, |_, meta| Ok(std::os::unix::fs::MetadataExt::blocks(meta) * 512)).await
    }

    /// Bytes of the files at `path` and below it that were written ([`swarm::written`]).
    pub async fn written(&self, path: impl AsRef<Path>) -> Result<u64> {
        self.sum(path, |path, meta| if meta.is_file() { swarm::written(path) } else { Ok(0) }).await
    }

    /// What `path` and everything below it come to; 0 if it does not exist.
    async fn sum(
        &self,
        path: impl AsRef<Path>,
        of: fn(&Path, &fs::Metadata) -> io::Result<u64>,
    ) -> Result<u64> {
        fn walk(path: &Path, of: fn(&Path, &fs::Metadata) -> io::Result<u64>) -> io::Result<u64> {
            let meta = match fs::symlink_metadata(path) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            };
            let mut sum = of(path, &meta)?;
            if meta.is_dir() {
                for entry in fs::read_dir(path)? {
                    sum += walk(&entry?.path(), of)?;
                }
            }
            Ok(sum)
        }
        let path = self.path(path)?;
        Ok(tokio::task::spawn_blocking(move || walk(&path, of)).await??)
    }

    /// Ids of the node's processes (with the machine's numbers) whose command line contains `text`.
    pub fn pids_of(&self, text: &str) -> Vec<rustix::process::Pid> {
        let mut pids = self.namespace.members();
        pids.extend(self.cgroup().members());
        pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        pids.dedup();
        pids.retain(|pid| command_line(*pid).contains(text));
        pids
    }

    /// Ends the node for good: processes, network, disks. The caller deletes the Node object.
    pub fn destroy(&mut self) -> Result<()> {
        self.kill()?;
        self.namespace.destroy()?;
        remove_all(&self.dir())
    }
}

fn command_line(pid: rustix::process::Pid) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Removes a folder with all that is in it; what is already gone is no error.
pub fn remove_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}
