//! What goes wrong while a torrent runs, said when it begins and not again until it is over.

use std::collections::BTreeSet;

use swarm::Stats;

/// The problems of one torrent that have been said.
#[derive(Debug, Default)]
pub struct Problems(BTreeSet<String>);

impl Problems {
    /// Those of now that have not been said since they began.
    pub fn news(&mut self, stats: &Stats) -> Vec<String> {
        let now = problems(stats);
        self.0.retain(|said| now.iter().any(|(what, _)| what == said));
        now.into_iter().filter(|(what, _)| self.0.insert(what.clone())).map(|(_, text)| text).collect()
    }
}

/// What is wrong with what, and how it is said. A tracker is known by its host: its URL can hold a passkey.
fn problems(stats: &Stats) -> Vec<(String, String)> {
    let disk = stats.trouble.iter().map(|trouble| ("disk".to_owned(), trouble.to_string()));
    let failing = stats.trackers.iter().filter_map(|tracker| {
        let host = host(&tracker.url);
        let said = format!("tracker {host}: {}; it is tried again", tracker.error.as_deref()?);
        Some((tracker.url.clone(), said))
    });
    let useless = stats.web_seeds.iter().filter_map(|seed| {
        let again = if seed.retry_in.is_some() { "; it is asked again" } else { "" };
        Some((seed.url.clone(), format!("web seed {}: {}{again}", seed.url, seed.error.as_deref()?)))
    });
    disk.chain(failing).chain(useless).collect()
}

/// `host:port` of a URL.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_by_its_host() {
        for (url, expected) in [
            ("http://10.0.0.1:6969/announce", "10.0.0.1:6969"),
            ("https://user:secret@a.example/0123/announce?key=1", "a.example"),
            ("http://[::1]:80", "[::1]:80"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(host(url), expected);
        }
    }
}
