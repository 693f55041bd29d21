use std::collections::BTreeMap;

use super::*;

const CERTS: &str = "/etc/containerd/certs.d";

/// Files in memory.
#[derive(Default)]
struct Host(BTreeMap<PathBuf, String>);

impl Host {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.into());
        self
    }
}

impl Files for Host {
    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.0.get(path).cloned())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inside = self.0.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }
}

fn known(name: &str) -> &'static Place {
    KNOWN.iter().find(|place| place.name == name).unwrap()
}

fn plain(host: &Host) -> Found {
    discover(host, known("containerd")).unwrap()
}

#[test]
fn all_versions_of_the_configuration_are_read() {
    for (version, plugin) in
        [(1, "cri"), (2, "\"io.containerd.grpc.v1.cri\""), (3, "'io.containerd.cri.v1.images'")]
    {
        let text = format!("version = {version}\n[plugins.{plugin}.registry]\n  config_path = \"{CERTS}\"\n");
        let found = plain(&Host::default().with("/etc/containerd/config.toml", &text));
        assert_eq!(found.config_path.as_deref(), Some(CERTS), "version {version}");
        assert_eq!(found.config_path_of("1.6.20~ds1"), Some(CERTS));
    }
}

#[test]
fn discarded_layers_are_noticed_in_old_and_new_places() {
    for text in [
        "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  discard_unpacked_layers = true\n",
        "version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\n  discard_unpacked_layers = true\n",
    ] {
        assert!(
            plain(&Host::default().with("/etc/containerd/config.toml", text)).discard_unpacked_layers,
            "{text}"
        );
    }
}

#[test]
fn imports_are_followed_with_wildcards_and_the_later_file_counts() {
    let registry =
        |path: &str| format!("[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{path}\"\n");
    let host = Host::default()
        .with(
            "/etc/containerd/config.toml",
            &format!("imports = [\"conf.d/*.toml\", \"/a/b.toml\"]\n{}", registry("/first")),
        )
        .with("/etc/containerd/conf.d/20.toml", &registry("/twenty"))
        .with(
            "/etc/containerd/conf.d/10.toml",
            "root = \"/data\"\nimports = [\"/etc/containerd/config.toml\"]\n",
        )
        .with("/etc/containerd/conf.d/README", "no TOML at all [")
        .with("/a/b.toml", &registry("/last"));
    let found = plain(&host);
    assert_eq!(found.config_path.as_deref(), Some("/last"));
    assert_eq!(found.root, Path::new("/data"));
    let files: Vec<_> = found.files.iter().map(|path| path.to_str().unwrap()).collect();
    let expected = [
        "/etc/containerd/config.toml",
        "/etc/containerd/conf.d/10.toml",
        "/etc/containerd/conf.d/20.toml",
        "/a/b.toml",
    ];
    assert_eq!(files, expected);
}

#[test]
fn without_a_word_only_newer_versions_look_anywhere() {
    let found = plain(&Host::default());
    assert_eq!((found.config_path.as_deref(), found.files.len()), (None, 0));
    assert_eq!(found.config_path_of("1.7.24"), None);
    assert_eq!(found.config_path_of("v2.1.9"), None);
    assert_eq!(found.config_path_of("v2.2.0"), Some(DEFAULT_SINCE_2_2));
    assert_eq!(found.config_path_of("v2.2.0-k3s1"), Some(DEFAULT_SINCE_2_2));
    assert_eq!(found.config_path_of("nonsense"), None);
    let empty = "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"\"\n";
    assert_eq!(
        plain(&Host::default().with("/etc/containerd/config.toml", empty)).config_path_of("v2.2.0"),
        None
    );
}

#[test]
fn distributions_are_recognised_by_their_file() {
    let config =
        "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"${SNAP_DATA}/args/certs.d\"\n";
    let host = Host::default()
        .with("/var/snap/microk8s/current/args/containerd.toml", config)
        .with("/etc/containerd/config.toml", "");
    let place = place(&host).unwrap().unwrap();
    assert_eq!(place.name, "MicroK8s");
    let found = discover(&host, place).unwrap();
    assert_eq!(found.config_path.as_deref(), Some("/var/snap/microk8s/current/args/certs.d"));
    let talos = Host::default()
        .with("/etc/cri/containerd.toml", "version = 3\nimports = [\"/etc/cri/conf.d/cri.toml\"]\n")
        .with(
            "/etc/cri/conf.d/cri.toml",
            "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/cri/conf.d/hosts\"\n",
        );
    assert_eq!(
        discover(&talos, known("Talos")).unwrap().config_path.as_deref(),
        Some("/etc/cri/conf.d/hosts")
    );
}

#[test]
fn a_broken_or_endless_configuration_is_an_error_that_names_the_file() {
    let broken = Host::default().with("/etc/containerd/config.toml", "version = ");
    let error = discover(&broken, known("containerd")).unwrap_err().to_string();
    assert!(error.starts_with("/etc/containerd/config.toml is no TOML"), "{error}");
    let mut many = Host::default().with("/etc/containerd/config.toml", "imports = [\"/many/*\"]");
    for number in 0..=MAX_FILES {
        many = many.with(&format!("/many/{number}"), "");
    }
    assert!(matches!(discover(&many, known("containerd")), Err(DiscoveryError::TooMany { .. })));
}

#[test]
fn wildcards_match_as_go_matches_them() {
    for (pattern, name, expected) in [
        ("*.toml", "a.toml", true),
        ("*.toml", "a.toml.bak", false),
        ("?.toml", "ab.toml", false),
        ("a*b*c", "aXbYc", true),
        ("a*b*c", "aXbYcZ", false),
        ("*", "", true),
        ("**x", "x", true),
        ("?", "", false),
    ] {
        assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
    }
}
