//! Copies of hosts files in another folder: the same meaning where relative paths lead elsewhere.

use std::path::Path;

use toml_edit::{Item, TableLike, Value};

use super::text::{Block, Made, TextError, add, parse};

/// The first line of a file that is ours as a whole.
const COPY: &str =
    "# samara: a copy, written anew whenever its original changes; the uninstall takes it away\n";

/// Whether a text is such a copy.
pub(crate) fn is_copy(text: &str) -> bool {
    text.starts_with(COPY)
}

/// A copy of `text`, which lies in `folder` on the host, with `block` as its first host.
pub(crate) fn copy_of(text: &str, folder: &Path, block: &Block) -> Result<String, TextError> {
    let mut document = parse(text)?;
    make_absolute(document.as_table_mut(), folder);
    if let Some(hosts) = document.get_mut("host").and_then(Item::as_table_like_mut) {
        for (_, host) in hosts.iter_mut() {
            if let Some(host) = host.as_table_like_mut() {
                make_absolute(host, folder);
            }
        }
    }
    Ok(format!("{COPY}{}", add(&document.to_string(), block, Made::Lines)?))
}

/// Certificates and keys are named relative to the folder of their hosts file.
fn make_absolute(table: &mut dyn TableLike, folder: &Path) {
    for key in ["ca", "client"] {
        if let Some(value) = table.get_mut(key).and_then(Item::as_value_mut) {
            make_value_absolute(value, folder);
        }
    }
}

/// A path, a list of paths, or a list of pairs of them.
fn make_value_absolute(value: &mut Value, folder: &Path) {
    if let Some(array) = value.as_array_mut() {
        array.iter_mut().for_each(|value| make_value_absolute(value, folder));
    } else if let Some(path) = value.as_str()
        && !path.starts_with('/')
        && let Some(absolute) = folder.join(path).to_str()
    {
        let decor = value.decor().clone();
        *value = absolute.into();
        *value.decor_mut() = decor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_names_certificates_by_their_whole_path() {
        let text = "ca = \"r.crt\"\n[host.\"https://a\"] # c\n  ca = [\"a.crt\", \"/b.crt\"]\n  client = [[\"a.cert\", \"a.key\"]]\n";
        let copy = copy_of(text, Path::new("/etc/containerd/certs.d/x"), &Block::on_port(1)).unwrap();
        assert!(is_copy(&copy) && !is_copy(text));
        let expected = "ca = \"/etc/containerd/certs.d/x/r.crt\"\n";
        assert!(copy.contains(expected), "{copy}");
        assert!(copy.contains("ca = [\"/etc/containerd/certs.d/x/a.crt\", \"/b.crt\"]"), "{copy}");
        assert!(
            copy.contains("[[\"/etc/containerd/certs.d/x/a.cert\", \"/etc/containerd/certs.d/x/a.key\"]]"),
            "{copy}"
        );
        assert!(copy.find("127.0.0.1").unwrap() < copy.find("https://a").unwrap());
    }
}
