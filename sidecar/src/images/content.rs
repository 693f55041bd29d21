//! Where the runtime's content store is mounted here.

use runtime::discovery::{self, Mounted};

use super::ImagesConfig;
use super::host::{at, place_of};
use crate::store::ContentStore;

/// The runtime's content store, if layers are to be read there and it can be; says which of the two it is. Reads the runtime's
/// configuration, and needs no runtime that answers: what lies there has to be found before a revision is opened.
pub fn content_store(config: &ImagesConfig) -> Option<ContentStore> {
    let found = if config.content_store { find(config) } else { Err("they are to stay".to_owned()) };
    match found {
        Ok(content) => {
            tracing::info!(folder = %content.folder().display(), "layers that the container runtime has are read there");
            Some(content)
        }
        Err(why) => {
            tracing::info!(why, "layers that the container runtime has stay below the data root too");
            None
        }
    }
}

fn find(config: &ImagesConfig) -> Result<ContentStore, String> {
    let mounted = Mounted(config.host.clone());
    let place = place_of(&mounted).map_err(|error| error.to_string())?;
    let found = discovery::discover(&mounted, place).map_err(|error| error.to_string())?;
    let folder = at(&config.host, &runtime::content_folder(&found.root).to_string_lossy());
    ContentStore::open(folder)
        .map_err(|error| format!("{error} (is it below images.contentStore or one of images.hostPaths?)"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::images::SPARE;

    fn config(host: &Path) -> ImagesConfig {
        let mirror = ([127, 0, 0, 1], 0).into();
        ImagesConfig { mirror, host: host.to_owned(), hosts_files: false, spare: SPARE, content_store: true }
    }

    #[test]
    fn the_content_store_is_where_the_configuration_says_or_own_copies_stay() {
        let host = tempfile::tempdir().unwrap();
        let at = |path: &str| host.path().join(path);
        assert_eq!(content_store(&config(host.path())), None, "nothing is mounted");
        let usual = at("var/lib/containerd/io.containerd.content.v1.content");
        fs::create_dir_all(&usual).unwrap();
        let found = content_store(&config(host.path())).unwrap();
        assert_eq!(found.folder(), usual);
        assert_eq!(content_store(&ImagesConfig { content_store: false, ..config(host.path()) }), None);

        fs::create_dir_all(at("etc/containerd")).unwrap();
        fs::write(at("etc/containerd/config.toml"), "root = \"/data/containerd\"\n").unwrap();
        assert_eq!(content_store(&config(host.path())), None, "the one at the usual place is nobody's");
        let theirs = at("data/containerd/io.containerd.content.v1.content");
        fs::create_dir_all(&theirs).unwrap();
        assert_eq!(content_store(&config(host.path())).unwrap().folder(), theirs);
    }
}
