//! Runs of pieces as HTTP requests.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;
use reqwest::Response;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use super::Site;
use crate::conversation::{Host, TICK};
use crate::core::{PeerKey, WantedRun};
use crate::net::announcer::chain;
use crate::net::torrent::Torrent;
use crate::web_seed::{self, Asked, Body, Failure, Head, MIN_RUN, Step, place};

/// The head of an answer comes within so long.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// A body of which nothing comes for so long is given up. Before that, peers take slow pieces over in the end game.
const STALL: Duration = Duration::from_secs(20);
/// No answer takes longer: it would be a run at 5 KB/s.
const LONGEST_ANSWER: Duration = Duration::from_hours(1);
/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 5;
/// Without memory for the next piece, the rest of a run is kept for so long while the server waits.
const MEMORY_TIME: Duration = Duration::from_secs(5);
/// Zeros that are fed at a time.
const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

type Run = web_seed::Run<Arc<Torrent>>;

impl Site {
    /// One run after the other, until one fails.
    pub(super) async fn lane(&self, key: PeerKey, host: &str) -> Result<Infallible, Failure> {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let mut news = self.torrent.news.subscribe();
        loop {
            let turn = self.torrent.engine.hosts.turn(host).await;
            if let Some(mut run) = self.reserve(key, &mut rng) {
                self.fetch(&mut run).await?;
                continue;
            }
            drop(turn);
            if self.torrent.core().is_doomed(key) {
                return Err(Failure::BadData);
            }
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    fn reserve(&self, key: PeerKey, rng: &mut StdRng) -> Option<Run> {
        let now = self.now();
        let rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner).per_second(now);
        let length = self.torrent.subject.pieces().piece_length();
        let pieces = |bytes: u64| u32::try_from((bytes / length).max(1)).unwrap_or(u32::MAX);
        let wanted = WantedRun { least: pieces(MIN_RUN), most: pieces(web_seed::run_bytes(rate)) };
        Run::reserve(self.torrent.clone(), (key, self.source), wanted, now, rng)
    }

    /// Fetches a run, but for what comes from elsewhere meanwhile. What cannot be stored or finds no memory is given back.
    async fn fetch(&self, run: &mut Run) -> Result<(), Failure> {
        let map = self.torrent.subject.pieces();
        loop {
            run.drop_superseded();
            if self.torrent.core().is_paused() || !self.open(run).await {
                return Ok(());
            }
            match run.step(map) {
                None => return Ok(()),
                Some(Step::Zeros(zeros)) => {
                    let part = ZEROS.len().min(zeros as usize);
                    run.feed(&ZEROS[..part], self.now())?;
                }
                Some(Step::Ask { file, offset, len }) => {
                    let size = self.torrent.subject.size(file);
                    self.ask(run, file, Asked { offset, len, size }).await?;
                }
            }
        }
    }

    /// Memory for the first piece of the run: what is fetched elsewhere frees some.
    async fn open(&self, run: &mut Run) -> bool {
        if run.open(self.now()) {
            return true;
        }
        let mut news = self.torrent.news.subscribe();
        let deadline = Instant::now() + MEMORY_TIME;
        while Instant::now() < deadline {
            if run.open(self.now()) {
                return true;
            }
            // Other torrents free memory too, and do not tell.
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
        false
    }

    /// One request and its answer, to the end or until what comes is not wanted any more.
    async fn ask(&self, run: &mut Run, file: usize, asked: Asked) -> Result<(), Failure> {
        let mut news = self.torrent.news.subscribe();
        let (mut response, mut skip) = self.request(file, asked).await?;
        let Some(mut at) = run.position(self.torrent.subject.pieces()) else { return Ok(()) };
        let mut left = asked.len;
        while left > 0 {
            let Some(chunk) = self.chunk(&mut response, run, &mut news, at).await? else { return Ok(()) };
            if chunk.is_empty() {
                return Err(Failure::CutOff { missing: left });
            }
            self.pay(chunk.len() as u64).await;
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let bytes = &chunk[skipped as usize..];
            let bytes = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            let taken = self.take(run, bytes, &mut at).await?;
            self.torrent.wasted((chunk.len() - taken) as u64);
            if taken < bytes.len() {
                return Ok(());
            }
            left -= taken as u64;
        }
        Ok(())
    }

    /// The next bytes of a body, none at its end; `None` when the piece that lies `at` in piece space has come from elsewhere.
    async fn chunk(
        &self,
        response: &mut Response,
        run: &mut Run,
        news: &mut watch::Receiver<u64>,
        at: u64,
    ) -> Result<Option<impl Deref<Target = [u8]> + use<>>, Failure> {
        let deadline = Instant::now() + STALL;
        loop {
            tokio::select! {
                chunk = tokio::time::timeout_at(deadline, response.chunk()) => {
                    // A body that breaks off may end in an error or just so.
                    let chunk = chunk.map_err(|_| Failure::Silent)?.ok().flatten();
                    return Ok(Some(chunk.unwrap_or_default()));
                }
                _ = news.changed() => run.drop_superseded(),
            }
            if run.position(self.torrent.subject.pieces()) != Some(at) {
                return Ok(None);
            }
        }
    }

    /// Counts bytes that have come, and waits for the limits of downloads.
    async fn pay(&self, bytes: u64) {
        self.torrent.counters.downloaded.fetch_add(bytes, Ordering::Relaxed);
        self.note(|status| {
            status.downloaded += bytes;
            status.error = None;
            status.retry_in = None;
        });
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).add(bytes, self.now());
        self.torrent.download_limit.pass(bytes).await;
        self.torrent.engine.download_limit.pass(bytes).await;
    }

    /// Puts bytes that lie `at` in piece space into the pieces of the run; answers how many of them were wanted.
    async fn take(&self, run: &mut Run, bytes: &[u8], at: &mut u64) -> Result<usize, Failure> {
        let map = self.torrent.subject.pieces();
        let mut taken = 0;
        while taken < bytes.len() {
            // Where parts of a piece are here already, the run goes on behind them.
            if !self.open(run).await || run.position(map) != Some(*at) {
                break;
            }
            let fed = run.feed(&bytes[taken..], self.now())?;
            *at += fed as u64;
            taken += fed;
        }
        Ok(taken)
    }

    /// Asks for a range, by way of redirects; answers with how many bytes come before it.
    async fn request(&self, file: usize, asked: Asked) -> Result<(Response, u64), Failure> {
        let place = place::url(&self.url, &self.metainfo, file);
        let mut url = Url::parse(&place).map_err(|_| Failure::NoUrl)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(url.clone(), asked).await?;
            let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
            let head = Head {
                status: response.status().as_u16(),
                content_range: text(CONTENT_RANGE),
                content_length: response.content_length(),
                content_encoding: text(CONTENT_ENCODING),
                location: text(LOCATION),
                retry_after: text(RETRY_AFTER),
            };
            match head.read(asked, SystemTime::now())? {
                Body::Skip(skip) => return Ok((response, skip)),
                Body::Redirect(to) => url = redirected(&url, to)?,
            }
        }
        Err(Failure::Redirects(MAX_REDIRECTS))
    }

    async fn send(&self, url: Url, asked: Asked) -> Result<Response, Failure> {
        let http = &self.torrent.engine.http;
        let request = http.get(url).header(RANGE, asked.range()).header(ACCEPT_ENCODING, "identity");
        let sent = tokio::time::timeout(ANSWER_TIME, request.timeout(LONGEST_ANSWER).send()).await;
        // `without_url`: it can hold a password.
        let unreachable = |error: reqwest::Error| Failure::Unreachable(chain(&error.without_url()));
        sent.map_err(|_| Failure::Silent)?.map_err(unreachable)
    }

    fn now(&self) -> Duration {
        self.torrent.engine.clock.now()
    }
}

/// Where a redirect leads: not out of HTTP, and not out of TLS.
fn redirected(from: &Url, to: &str) -> Result<Url, Failure> {
    let to = from.join(to).map_err(|_| Failure::BadRedirect)?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        _ => Err(Failure::BadRedirect),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_within_http_and_within_tls() {
        let plain = Url::parse("http://user@h/a/b").unwrap();
        assert_eq!(redirected(&plain, "/c").unwrap().as_str(), "http://user@h/c");
        assert_eq!(redirected(&plain, "https://other/c").unwrap().as_str(), "https://other/c");
        let tls = Url::parse("https://h/a").unwrap();
        for bad in ["http://h/a", "file:///etc/passwd", "ftp://h/a", "http://["] {
            assert_eq!(redirected(&tls, bad), Err(Failure::BadRedirect), "{bad}");
        }
    }
}
