//! Where distributions keep containerd's things. From their documentation; none but the first is in our tests.

/// A distribution's places, all on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What it is called.
    pub name: &'static str,
    /// containerd's main configuration.
    pub config: &'static str,
    /// Its socket.
    pub socket: &'static str,
    /// Its folder, where that stands on its command line and not in the configuration.
    pub root: Option<&'static str>,
    /// What stands for variables in the configuration: name and value.
    pub variables: &'static [(&'static str, &'static str)],
}

impl Place {
    /// A path of the configuration with its variables filled in.
    pub(crate) fn expand(&self, path: &str) -> String {
        let fill = |path: String, (name, value): &(&str, &str)| path.replace(&format!("${{{name}}}"), value);
        self.variables.iter().fold(path.to_owned(), fill)
    }
}

/// Those that are known. Distributions with a containerd of their own come first: a host may have an unused one of its packages besides.
pub const KNOWN: [Place; 6] = [
    Place {
        name: "RKE2",
        config: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        socket: "/run/k3s/containerd/containerd.sock",
        root: Some("/var/lib/rancher/rke2/agent/containerd"),
        variables: &[],
    },
    Place {
        name: "k3s",
        config: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        socket: "/run/k3s/containerd/containerd.sock",
        root: Some("/var/lib/rancher/k3s/agent/containerd"),
        variables: &[],
    },
    Place {
        name: "k0s",
        config: "/etc/k0s/containerd.toml",
        socket: "/run/k0s/containerd.sock",
        root: Some("/var/lib/k0s/containerd"),
        variables: &[],
    },
    Place {
        name: "MicroK8s",
        config: "/var/snap/microk8s/current/args/containerd.toml",
        socket: "/var/snap/microk8s/common/run/containerd.sock",
        root: Some("/var/snap/microk8s/common/var/lib/containerd"),
        variables: &[
            ("SNAP_DATA", "/var/snap/microk8s/current"),
            ("SNAP_COMMON", "/var/snap/microk8s/common"),
        ],
    },
    Place {
        name: "Talos",
        config: "/etc/cri/containerd.toml",
        socket: "/run/containerd/containerd.sock",
        root: None,
        variables: &[],
    },
    Place {
        name: "containerd",
        config: "/etc/containerd/config.toml",
        socket: "/run/containerd/containerd.sock",
        root: None,
        variables: &[],
    },
];
