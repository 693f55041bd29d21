use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

const CERTS: &str = "/etc/containerd/certs.d";
const DOCKER: &str = "/etc/docker/certs.d";

struct Host {
    mount: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { mount: tempfile::tempdir().unwrap() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.mount.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn hosts(&self, config_path: &str) -> Hosts {
        Hosts::new(self.mount.path(), config_path)
    }

    /// Every file and folder with its content.
    fn all(&self) -> BTreeMap<PathBuf, Option<String>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Option<String>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    found.insert(path.clone(), None);
                    walk(&path, found);
                } else {
                    found.insert(path.clone(), fs::read_to_string(&path).ok());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.mount.path(), &mut found);
        found
    }
}

fn block() -> Block {
    Block::on_port(29_080)
}

fn failures(reports: &[Report]) -> Vec<String> {
    let failed = reports.iter().filter_map(|report| match &report.outcome {
        Outcome::Failed(error) => Some(format!("{} {error}", report.path.display())),
        _ => None,
    });
    failed.collect()
}

#[test]
fn default_is_made_and_every_registry_gets_the_mirror_and_all_is_undone() {
    let host = Host::new();
    host.write(
        "/etc/containerd/certs.d/docker.io/hosts.toml",
        "server = \"https://docker.io\"\n[host.\"https://m\"]",
    );
    host.write("/etc/containerd/certs.d/registry_5000_/hosts.toml", "[host.\"https://x\"]\n");
    fs::create_dir_all(host.at("/etc/containerd/certs.d/empty.example")).unwrap();
    host.write("/etc/containerd/certs.d/README", "not a folder");
    fs::set_permissions(
        host.at("/etc/containerd/certs.d/docker.io/hosts.toml"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let before = host.all();
    let hosts = host.hosts(CERTS);
    let reports = hosts.apply(&block());
    assert_eq!(failures(&reports), [""; 0]);
    for name in ["_default", "docker.io", "registry_5000_", "empty.example"] {
        let text = host.read(&format!("{CERTS}/{name}/hosts.toml"));
        assert!(text.contains(block().url()), "{name}: {text}");
    }
    let original = host.read("/etc/containerd/certs.d/docker.io/hosts.toml.samara.orig");
    assert!(original.ends_with("[host.\"https://m\"]"), "the copy is what was there");
    let mode = fs::metadata(host.at("/etc/containerd/certs.d/docker.io/hosts.toml")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    let applied = host.all();
    assert!(hosts.apply(&block()).iter().all(|report| matches!(report.outcome, Outcome::Unchanged)));
    assert_eq!(host.all(), applied);
    assert_eq!(failures(&hosts.undo()), [""; 0]);
    assert_eq!(host.all(), before);
}

#[test]
fn a_registry_with_certificates_only_is_left_alone() {
    let host = Host::new();
    host.write("/etc/containerd/certs.d/private.example/ca.crt", "PEM");
    host.write("/etc/containerd/certs.d/other.example/client.cert", "PEM");
    host.write("/etc/containerd/certs.d/other.example/hosts.toml", "");
    let reports = host.hosts(CERTS).apply(&block());
    let left = reports.iter().filter(|report| matches!(report.outcome, Outcome::Certificates)).count();
    assert_eq!(left, 2);
    assert!(!host.at("/etc/containerd/certs.d/private.example/hosts.toml").exists());
}

#[test]
fn a_file_that_cannot_be_edited_does_not_keep_the_others_from_it() {
    let host = Host::new();
    host.write("/etc/containerd/certs.d/broken.example/hosts.toml", "[host");
    host.write("/elsewhere/hosts.toml", "");
    fs::create_dir_all(host.at("/etc/containerd/certs.d/link.example")).unwrap();
    symlink("/elsewhere/hosts.toml", host.at("/etc/containerd/certs.d/link.example/hosts.toml")).unwrap();
    let reports = host.hosts(CERTS).apply(&block());
    let failed = failures(&reports);
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed[0].contains("broken.example/hosts.toml is no TOML"), "{failed:?}");
    assert!(failed[1].contains("link.example/hosts.toml is no ordinary file"), "{failed:?}");
    assert_eq!(host.read("/etc/containerd/certs.d/broken.example/hosts.toml"), "[host");
    assert!(host.read("/etc/containerd/certs.d/_default/hosts.toml").contains(block().url()));
}

#[test]
fn of_several_places_only_the_last_gets_a_new_default() {
    let host = Host::new();
    host.write("/etc/docker/certs.d/private.example/ca.crt", "PEM");
    let list = format!("{CERTS}:{DOCKER}");
    host.hosts(&list).apply(&block());
    assert!(!host.at("/etc/containerd/certs.d/_default").exists(), "it would hide private.example");
    assert!(host.read("/etc/docker/certs.d/_default/hosts.toml").contains(block().url()));
}

#[test]
fn a_list_is_also_written_as_the_one_path_that_newer_containerds_take_it_for() {
    let host = Host::new();
    host.write("/etc/containerd/certs.d/a.example/hosts.toml", "[host.\"https://m\"]\n  ca = \"m.crt\"\n");
    host.write("/etc/docker/certs.d/_default/hosts.toml", "server = \"https://s\"\n");
    let before = host.all();
    let list = format!("{CERTS}:{DOCKER}");
    let hosts = host.hosts(&list);
    assert_eq!(failures(&hosts.apply(&block())), [""; 0]);
    let copy = host.read("/etc/containerd/certs.d:/etc/docker/certs.d/a.example/hosts.toml");
    assert!(
        copy.contains("ca = \"/etc/containerd/certs.d/a.example/m.crt\"") && copy.contains(block().url()),
        "{copy}"
    );
    let default = host.read("/etc/containerd/certs.d:/etc/docker/certs.d/_default/hosts.toml");
    assert!(default.contains("https://s") && default.contains(block().url()), "{default}");
    assert!(hosts.apply(&block()).iter().all(|report| matches!(report.outcome, Outcome::Unchanged)));
    // A registry that goes takes its copy with it.
    fs::remove_dir_all(host.at("/etc/containerd/certs.d/a.example")).unwrap();
    hosts.apply(&block());
    assert!(!host.at("/etc/containerd/certs.d:/etc/docker/certs.d/a.example").exists());
    host.write("/etc/containerd/certs.d/a.example/hosts.toml", "[host.\"https://m\"]\n  ca = \"m.crt\"\n");
    hosts.apply(&block());
    assert_eq!(failures(&hosts.undo()), [""; 0]);
    assert_eq!(host.all(), before);
}

#[test]
fn a_foreign_file_under_the_literal_path_is_edited_and_kept() {
    let host = Host::new();
    let path = "/etc/containerd/certs.d:/etc/docker/certs.d/_default/hosts.toml";
    host.write(path, "server = \"https://theirs\"\n");
    let before = host.all();
    let hosts = host.hosts(&format!("{CERTS}:{DOCKER}"));
    hosts.apply(&block());
    assert!(host.read(path).contains("https://theirs") && host.read(path).contains(block().url()));
    hosts.undo();
    assert_eq!(host.read(path), before[&host.at(path)].clone().unwrap());
}

#[test]
fn what_others_add_to_a_file_of_ours_stays() {
    let host = Host::new();
    let hosts = host.hosts(CERTS);
    hosts.apply(&block());
    let path = "/etc/containerd/certs.d/_default/hosts.toml";
    let more = format!("{}[host.\"https://theirs\"]\n", host.read(path));
    host.write(path, &more);
    hosts.undo();
    assert_eq!(host.read(path), "[host.\"https://theirs\"]\n");
}
