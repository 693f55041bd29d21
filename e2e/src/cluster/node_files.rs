//! What a node is made of besides processes: the script that arranges its mounts, and the files that configure its daemons.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::cgroup::Cgroup;
use super::pki::Pki;
use super::slot::Slot;
use xtask::tools::Tools;

/// containerd's socket as seen inside a node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
/// The data root of the sidecars, a folder or a disk of the node's own.
pub const DATA_ROOT: &str = "/var/lib/samara";
/// What each node has for itself: folder below the node's folder, place in the node's mount namespace.
const BINDS: [(&str, &str); 9] = [
    ("containerd", "/var/lib/containerd"),
    ("run-containerd", "/run/containerd"),
    ("kubelet", "/var/lib/kubelet"),
    ("cni-conf", "/etc/cni/net.d"),
    ("etc-containerd", "/etc/containerd"),
    ("pod-logs", "/var/log/pods"),
    ("container-logs", "/var/log/containers"),
    ("cni", "/var/lib/cni"),
    ("data", DATA_ROOT),
];
/// Gives the node its own places, says so by the file `ready`, and stays: the mounts live as long as it does.
pub fn mount_script(dir: &Path, tools: &Tools, ready: &Path) -> String {
    use std::fmt::Write as _;
    // A copy of another namespace's handle would keep that namespace alive; pods' namespaces are the node's own.
    let mut script = String::from("umount -R -l /run/netns\nmount -t tmpfs tmpfs /run/netns\n");
    for (folder, place) in BINDS {
        let folder = dir.join(folder);
        writeln!(script, "mkdir -p {place} {0}\nmount --bind {0} {place}", folder.display())
            .expect("writing to a String cannot fail");
    }
    let disk = dir.join("data.img");
    if disk.exists() {
        writeln!(script, "mount -o loop {} {DATA_ROOT}", disk.display())
            .expect("writing to a String cannot fail");
    }
    let toolbox = tools.path("toolbox");
    write!(
        script,
        "rm -rf /run/containerd/*\nmount --make-rshared /var/lib/kubelet\n: > {}\nexec {} pause\n",
        ready.display(),
        toolbox.display()
    )
    .expect("writing to a String cannot fail");
    script
}

/// Writes the files of node `number`.
pub fn configure(slot: &Slot, number: usize) -> Result<()> {
    let name = format!("node{number}");
    let dir = PathBuf::from(&name);
    let pki = Pki::open(slot)?;
    pki.kubeconfig(&name, &format!("system:node:{name}"), &["system:nodes"])?;
    let write = |file: &str, text: String| slot.write(&dir.join(file), text);
    write("etc-containerd/config.toml", containerd_config())?;
    write("etc-containerd/certs.d/.keep", String::new())?;
    write("cni-conf/10-e2e.conflist", cni_config(&slot.pods(number)))?;
    write("kubelet.json", kubelet_config(slot, number))?;
    write(
        "proxy.json",
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "clientConnection": { "kubeconfig": slot.dir.join("proxy.kubeconfig") },
            "mode": "iptables", "hostnameOverride": name, "clusterCIDR": slot.all_pods(),
            // The machine's limit is not this namespace's to change.
            "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
            "iptables": { "minSyncPeriod": "100ms", "syncPeriod": "30s" },
        })
        .to_string(),
    )
}

fn kubelet_config(slot: &Slot, number: usize) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": slot.node(number),
        "authentication": {
            "anonymous": { "enabled": false }, "webhook": { "enabled": true },
            "x509": { "clientCAFile": slot.dir.join("pki/ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs", "cgroupRoot": Cgroup::of_node(slot, number).root(), "failCgroupV1": false, "failSwapOn": false,
        "clusterDNS": [slot.dns_service()], "clusterDomain": "cluster.local", "resolvConf": "/dev/null",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "nodeStatusUpdateFrequency": "5s", "nodeLeaseDurationSeconds": 12,
        "serializeImagePulls": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    })
    .to_string()
}

fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"#,
        super::image::TOOLBOX
    )
}

fn cni_config(pods: &str) -> String {
    json!({
        "cniVersion": "0.4.0", "name": "e2e",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": pods }]], "routes": [{ "dst": "0.0.0.0/0" }] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}
