//! What goes wrong while a torrent runs, said when it begins and not again until it is over.

use std::collections::BTreeSet;

use swarm::{LookupStatus, Stats, TrackerStatus};

/// The problems of one torrent that have been said.
#[derive(Debug, Default)]
pub struct Problems(BTreeSet<String>);

/// What can go wrong.
struct Case {
    /// Of all that can, what this is.
    what: String,
    /// How it is said; `None` as long as it is not known whether it goes wrong.
    said: Option<String>,
}

impl Problems {
    /// Those of a torrent at work that have not been said since they began.
    pub fn of_torrent(&mut self, stats: &Stats) -> Vec<String> {
        let disk = stats.trouble.iter().map(|trouble| Case::new("disk", trouble.to_string()));
        let useless = stats.web_seeds.iter().filter_map(|seed| {
            let again = if seed.retry_in.is_some() { "; it is asked again" } else { "" };
            let said = format!("web seed {}: {}{again}", seed.url, seed.error.as_deref()?);
            Some(Case::new(&seed.url, said))
        });
        self.news(disk.chain(trackers(&stats.trackers)).chain(useless).collect())
    }

    /// Those of a torrent that is being looked for.
    pub fn of_lookup(&mut self, status: &LookupStatus) -> Vec<String> {
        self.news(trackers(&status.trackers).collect())
    }

    fn news(&mut self, now: Vec<Case>) -> Vec<String> {
        self.0.retain(|said| now.iter().any(|case| case.what == *said));
        now.into_iter().filter_map(|case| case.said.filter(|_| self.0.insert(case.what))).collect()
    }
}

impl Case {
    fn new(what: &str, said: String) -> Self {
        Self { what: what.to_owned(), said: Some(said) }
    }
}

/// The trackers that fail, or have not answered yet. One is known by its host: its URL can hold a passkey.
fn trackers(trackers: &[TrackerStatus]) -> impl Iterator<Item = Case> {
    trackers.iter().filter(|tracker| !tracker.reached || tracker.error.is_some()).map(|tracker| Case {
        what: tracker.url.clone(),
        said: tracker
            .error
            .as_ref()
            .map(|error| format!("tracker {}: {error}; it is tried again", host(&tracker.url))),
    })
}

/// `host:port` of a URL.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use swarm::lookup::Progress;

    use super::*;

    #[test]
    fn a_tracker_that_fails_is_said_again_when_it_has_answered_between() {
        let mut problems = Problems::default();
        for (reached, error, expected) in [
            (false, None, 0),
            (false, Some("one"), 1),
            (false, Some("another"), 0),
            // The download begins: nothing is known yet.
            (false, None, 0),
            (false, Some("one"), 0),
            (true, None, 0),
            (true, Some("one"), 1),
        ] {
            let url = "http://10.0.0.1/announce".to_owned();
            let tracker =
                TrackerStatus { url, reached, error: error.map(str::to_owned), ..TrackerStatus::default() };
            let status = LookupStatus { progress: Progress::Info, peers: 0, trackers: vec![tracker] };
            assert_eq!(problems.of_lookup(&status).len(), expected, "{reached} {error:?}");
        }
    }

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
