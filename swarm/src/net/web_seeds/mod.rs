//! Asks web seeds for pieces, one task for each of them, as long as something is missing.

mod fetch;
mod hosts;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use torrent::Metainfo;
use url::Url;

pub use hosts::Hosts;

use super::api::WebSeedStatus;
use super::torrent::Torrent;
use crate::core::{PeerKey, Source};
use crate::rate::Rate;
use crate::web_seed::Failure;

/// Web seeds of one torrent that are used: a list is as long as its maker likes.
const MAX_WEB_SEEDS: usize = 16;

/// Lists the web seeds in the torrent's figures, and starts to ask them.
pub fn start(torrent: &Arc<Torrent>) {
    let Some(metainfo) = torrent.subject.metainfo() else { return };
    let mut seen = HashSet::new();
    let mut urls = torrent.web_seeds.iter().filter(|url| seen.insert(*url));
    for (index, url) in urls.by_ref().take(MAX_WEB_SEEDS).enumerate() {
        let site = Site::new(torrent, metainfo.clone(), url, index);
        let mut held = torrent.web_seed_status.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(WebSeedStatus { url: site.shown.clone(), ..WebSeedStatus::default() });
        drop(held);
        let stop = torrent.stop.clone();
        torrent.tasks.spawn(async move { stop.run_until_cancelled(site.run()).await });
    }
    let unused = urls.count();
    if unused > 0 {
        tracing::warn!(unused, used = MAX_WEB_SEEDS, "there are more web seeds than a torrent uses");
    }
}

/// A web seed of one torrent.
struct Site {
    torrent: Arc<Torrent>,
    metainfo: Arc<Metainfo>,
    url: String,
    /// For messages.
    shown: String,
    /// Host and port; `None` if the URL is none that can be asked.
    host: Option<String>,
    /// Which entry of the figures is its own.
    index: usize,
    source: Source,
    rate: Mutex<Rate>,
}

/// As long as it lives, the web seed counts as a source of the torrent.
struct Visit<'a> {
    torrent: &'a Torrent,
    key: PeerKey,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.torrent.core().disconnected(self.key);
        self.torrent.bump();
    }
}

impl Site {
    fn new(torrent: &Arc<Torrent>, metainfo: Arc<Metainfo>, url: &str, index: usize) -> Self {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let host = parsed.as_ref().and_then(|url| {
            Some(format!("{}:{}", url.host_str()?, url.port_or_known_default().unwrap_or_default()))
        });
        let shown = parsed.map_or_else(|| "(no URL)".to_owned(), without_secrets);
        let rate = Mutex::new(Rate::new(torrent.engine.clock.now()));
        Self {
            torrent: torrent.clone(),
            metainfo,
            url: url.to_owned(),
            shown,
            host,
            index,
            source: Source::web_seed(url),
            rate,
        }
    }

    async fn run(self) {
        let mut failures = 0;
        loop {
            self.until(false).await;
            let (failure, was_of_use) = tokio::select! {
                ended = self.visit() => ended,
                // Also when it is waiting for an answer or for a turn: a torrent that has everything has no sources.
                () = self.until(true) => continue,
            };
            failures = if was_of_use { 1 } else { failures + 1 };
            let Some(wait) = self.failed(&failure, failures) else { return };
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until everything is here, or something is missing.
    async fn until(&self, complete: bool) {
        let mut news = self.torrent.news.subscribe();
        // It fails when the torrent is gone, and this with it.
        while self.torrent.core().is_complete() != complete && news.changed().await.is_ok() {}
    }

    /// Fetches until something fails; says whether a piece came before.
    async fn visit(&self) -> (Failure, bool) {
        let Some(host) = &self.host else { return (Failure::NoUrl, false) };
        let now = self.torrent.engine.clock.now();
        let came = self.torrent.core().web_seed_came(self.source, now);
        let Ok(key) = came else { return (Failure::BadData, false) };
        let visit = Visit { torrent: &self.torrent, key };
        // As many as there are turns at a host.
        let Err(failure) = tokio::try_join!(self.lane(visit.key, host), self.lane(visit.key, host));
        let verified = self.torrent.core().peers().get(&visit.key).map(|peer| peer.verified);
        (failure, verified > Some(0))
    }

    /// Shows a failure, and answers how long to wait; `None` if there is nothing to wait for.
    fn failed(&self, failure: &Failure, failures: u32) -> Option<Duration> {
        let wait = failure.retry(failures).map(|wait| wait.mul_f64(rand::rng().random_range(0.9..1.1)));
        self.note(|status| {
            if status.error.is_none() {
                tracing::warn!(url = self.shown, %failure, again = wait.is_some(), "a web seed gives nothing");
            }
            status.error = Some(failure.to_string());
            status.retry_in = wait;
        });
        wait
    }

    fn note(&self, change: impl FnOnce(&mut WebSeedStatus)) {
        let mut held = self.torrent.web_seed_status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = held.get_mut(self.index) {
            change(status);
        }
    }
}

/// A URL for people to see: user, password and query may be secret, and a fragment says nothing.
fn without_secrets(mut url: Url) -> String {
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails with a host, and an http URL has one.
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return "(no URL)".into();
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let url = Url::parse("https://user:pass@h:8443/a%20b/?signature=1#x").unwrap();
        assert_eq!(without_secrets(url), "https://h:8443/a%20b/");
    }
}
