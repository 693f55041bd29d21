//! What is said while torrents run: bars on a terminal, events with `--json`, problems in any case.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm::{LookupStatus, Phase, Stats};
use torrent::{InfoHashV1, InfoHashV2, Magnet, Metainfo};

use super::problems::{Problems, host};
use crate::output;
use crate::progress::{Line, LookupLine, Screen, seconds_left};

/// `progress` events of one torrent come at least so far apart, unless its phase changes.
const EVENTS: Duration = Duration::from_secs(1);

/// Says it all, of any number of torrents.
pub struct Report {
    json: bool,
    screen: Screen,
    torrents: Vec<Watched>,
    /// What was said while a torrent was looked for. It is not said again when its download begins.
    of_lookup: Problems,
}

struct Watched {
    name: String,
    id: String,
    line: Line,
    problems: Problems,
    told: Option<(Instant, Stats)>,
}

impl Report {
    /// As JSON on standard output, or as text.
    pub fn new(json: bool) -> Self {
        Self { json, screen: Screen::new(), torrents: Vec::new(), of_lookup: Problems::default() }
    }

    /// One more torrent, to be named by the index that this returns.
    pub fn watch_torrent(&mut self, metainfo: &Metainfo) -> usize {
        self.watch(metainfo.name(), &id(metainfo.info_hash_v1(), metainfo.info_hash_v2()))
    }

    /// The same for one that is called `name`, and `id` in events.
    pub fn watch(&mut self, name: &str, id: &str) -> usize {
        let line = self.screen.line();
        let problems = std::mem::take(&mut self.of_lookup);
        self.torrents.push(Watched { name: name.to_owned(), id: id.to_owned(), line, problems, told: None });
        self.torrents.len() - 1
    }

    /// Whether results are events.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Talks while no bar is in the way.
    pub fn say(&self, text: &str) {
        self.screen.suspend(|| output::say(text));
    }

    /// A result: one line of text, or one event.
    pub fn result(&self, text: &str, event: &Value) -> io::Result<()> {
        self.screen.suspend(|| output::result(&if self.json { event.to_string() } else { text.to_owned() }))
    }

    /// A result that only the events have, since the text says it elsewhere.
    pub fn event(&self, event: &Value) -> io::Result<()> {
        if self.json { self.result("", event) } else { Ok(()) }
    }

    /// A torrent is being looked for.
    pub fn lookup(&self, link: &Magnet) -> LookupLine {
        self.screen.lookup(shown_name(link))
    }

    /// How it goes with that.
    pub fn show_lookup(
        &mut self,
        shown: &LookupLine,
        link: &Magnet,
        status: &LookupStatus,
    ) -> io::Result<()> {
        shown.show(status);
        let problems = self.of_lookup.of_lookup(status);
        self.complain(shown_name(link), &id(link.v1, link.v2), problems)
    }

    /// The figures of a torrent.
    pub fn show(&mut self, index: usize, stats: &Stats) -> io::Result<()> {
        let watched = &mut self.torrents[index];
        watched.line.show(&watched.name, stats);
        let problems = watched.problems.of_torrent(stats);
        let due = watched
            .told
            .as_ref()
            .is_none_or(|(at, told)| told.phase != stats.phase || (at.elapsed() >= EVENTS && told != stats));
        let (name, id) = (watched.name.clone(), watched.id.clone());
        if due {
            watched.told = Some((Instant::now(), stats.clone()));
            self.event(&progress(&id, stats))?;
        }
        self.complain(&name, &id, problems)
    }

    /// Says what goes wrong and does not end it.
    pub fn complain(&self, name: &str, id: &str, problems: Vec<String>) -> io::Result<()> {
        for problem in problems {
            self.say(&format!("{name}: {problem}"));
            self.event(&json!({ "event": "error", "infoHash": id, "message": problem }))?;
        }
        Ok(())
    }

    /// Leaves the last figures on the screen.
    pub fn finish(&self) {
        self.torrents.iter().for_each(|watched| watched.line.finish());
    }
}

/// The infohash by which events name a torrent: v1 if there is one.
fn id(v1: Option<InfoHashV1>, v2: Option<InfoHashV2>) -> String {
    v1.map(|hash| hash.to_string()).or_else(|| v2.map(|hash| hash.to_string())).unwrap_or_default()
}

/// What to call a torrent of which there is only a link.
fn shown_name(link: &Magnet) -> &str {
    link.name.as_deref().unwrap_or("magnet link")
}

/// What a torrent is: the fields that `seed` and `get` share.
pub fn torrent_event(metainfo: &Metainfo) -> Value {
    json!({
        "event": "torrent", "infoHash": id(metainfo.info_hash_v1(), metainfo.info_hash_v2()), "name": metainfo.name(), "size": metainfo.total_size(),
        "infoHashV1": metainfo.info_hash_v1().map(|hash| hash.to_string()),
        "infoHashV2": metainfo.info_hash_v2().map(|hash| hash.to_string()),
    })
}

fn progress(id: &str, stats: &Stats) -> Value {
    let phase = match stats.phase {
        Phase::Checking => "checking",
        Phase::Leeching => "downloading",
        Phase::Complete => "seeding",
    };
    let trackers: Vec<Value> = stats
        .trackers
        .iter()
        .map(|tracker| json!({ "host": host(&tracker.url), "error": tracker.error }))
        .collect();
    let web_seeds: Vec<Value> = stats
        .web_seeds
        .iter()
        .map(|seed| json!({ "url": seed.url, "downloaded": seed.downloaded, "error": seed.error }))
        .collect();
    json!({
        "event": "progress", "infoHash": id, "phase": phase,
        "wanted": stats.wanted, "have": stats.wanted - stats.lacking, "total": stats.total,
        "downloaded": stats.downloaded, "uploaded": stats.uploaded, "wasted": stats.wasted,
        "downloadRate": stats.download_rate, "uploadRate": stats.upload_rate, "secondsLeft": seconds_left(stats),
        "peers": stats.peers, "seeds": stats.seeds,
        "trouble": stats.trouble.as_ref().map(ToString::to_string), "trackers": trackers,
        "webSeeds": web_seeds,
    })
}
