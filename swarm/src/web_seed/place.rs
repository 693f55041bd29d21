//! Where a file of a torrent is at a web seed (BEP 19).

use torrent::Metainfo;

use crate::announce::http::percent;

/// The URL of payload file number `file`, of a web seed named `base`.
///
/// The URL of a single-file torrent is used as it is, but for one that ends in `/`: the name is added. To that of a torrent with a
/// folder, the name of the folder and the path of the file are added, with a `/` before if it is missing. A query stays at the end.
pub fn url(base: &str, metainfo: &Metainfo, file: usize) -> String {
    let base = base.split('#').next().unwrap_or_default();
    let (path, query) = base.find('?').map_or((base, ""), |at| base.split_at(at));
    let is_single = metainfo.is_single_file();
    if is_single && !path.ends_with('/') {
        return base.to_owned();
    }
    let mut url = path.trim_end_matches('/').to_owned();
    let below = metainfo.files().get(file).filter(|_| !is_single).map(|file| file.path.components());
    for component in std::iter::once(metainfo.name()).chain(below.into_iter().flatten()) {
        url.push('/');
        url.push_str(&percent(component.as_bytes()));
    }
    url + query
}

#[cfg(test)]
mod tests {
    use torrent::{Builder, RelPath, Version};

    use super::*;

    fn metainfo(paths: &[&str]) -> Metainfo {
        let builder = Builder::new(Version::V2, 1 << 20).unwrap();
        let hashed = paths.iter().map(|path| {
            let mut hasher = builder.file_hasher(paths.len());
            hasher.update(b"x");
            (RelPath::parse(path).unwrap(), hasher.finish())
        });
        let hashed = hashed.collect();
        builder.build(hashed).unwrap()
    }

    #[test]
    fn the_url_of_a_single_file_is_used_as_it_is_but_for_a_folder() {
        let one = metainfo(&["an ISO.iso"]);
        let name = percent(one.name().as_bytes());
        for (base, wanted) in [
            ("http://h/x/y.iso", "http://h/x/y.iso".to_owned()),
            ("http://h/y.iso?token=a/", "http://h/y.iso?token=a/".to_owned()),
            ("http://h/y.iso#part", "http://h/y.iso".to_owned()),
            ("http://h/x/", format!("http://h/x/{name}")),
            ("http://h/x/?token=a", format!("http://h/x/{name}?token=a")),
        ] {
            assert_eq!(url(base, &one, 0), wanted);
        }
    }

    #[test]
    fn name_and_path_of_a_tree_are_added_component_by_component() {
        let tree = metainfo(&["a b/100%?#.txt", "ü/c"]);
        let name = tree.name();
        assert_eq!(url("http://h/x/", &tree, 0), format!("http://h/x/{name}/a%20b/100%25%3F%23.txt"));
        assert_eq!(url("http://h/x", &tree, 1), format!("http://h/x/{name}/%C3%BC/c"));
        assert_eq!(url("http://h?k=1", &tree, 1), format!("http://h/{name}/%C3%BC/c?k=1"));
    }
}
