//! Bars about what moves, on a terminal only: elsewhere the result says it all, or events do.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use swarm::lookup::Progress;
use swarm::{LookupStatus, Phase, Stats};

use crate::torrent_command::Watch;
use crate::{
    output,
    units::{bytes, duration},
};

/// Bars are drawn so often a second: figures come twice.
const REDRAWS: u8 = 4;
/// Characters of a torrent's name that are shown.
const NAME: usize = 24;

/// A bar for bytes that are hashed, with rate and time left. Nothing where there is no terminal.
pub struct Hashing(Option<ProgressBar>);

impl Hashing {
    /// For so many bytes.
    pub fn new(total: u64) -> Self {
        let style = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left";
        Self(output::is_interactive().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
            bar
        }))
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

impl Watch for Hashing {
    fn advance(&self, bytes: u64) {
        self.0.iter().for_each(|bar| bar.inc(bytes));
    }
}

/// The bars of torrents, below each other. Nothing where there is no terminal.
pub struct Screen(Option<MultiProgress>);

impl Screen {
    /// No bars yet.
    pub fn new() -> Self {
        Self(
            output::is_interactive()
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS))),
        )
    }

    /// One more bar, of a torrent.
    pub fn line(&self) -> Line {
        Line(self.0.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(0));
            bar.set_style(ProgressStyle::with_template("{bar:20} {msg}").expect("the template is valid"));
            bar
        }))
    }

    /// A line about a torrent that is being looked for.
    pub fn lookup(&self, name: &str) -> LookupLine {
        LookupLine(self.0.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_prefix(name.chars().take(NAME).collect::<String>());
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix}: {msg}").expect("the template is valid"),
            );
            bar
        }))
    }

    /// Does something that writes to the terminal while no bar is in the way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// The bar of one torrent.
pub struct Line(Option<ProgressBar>);

impl Line {
    /// Shows the figures of now.
    pub fn show(&self, name: &str, stats: &Stats) {
        if let Some(bar) = &self.0 {
            bar.set_length(stats.wanted);
            bar.set_position(stats.wanted - stats.lacking);
            bar.set_message(describe(name, stats));
        }
    }

    /// Leaves the last figures on the screen.
    pub fn finish(&self) {
        self.0.iter().for_each(ProgressBar::abandon);
    }
}

/// The line of a torrent that is being looked for.
pub struct LookupLine(Option<ProgressBar>);

impl LookupLine {
    /// Shows how it goes.
    pub fn show(&self, status: &LookupStatus) {
        let Some(bar) = &self.0 else { return };
        let mut text = match status.progress {
            Progress::Info => format!("asking {} peers for the torrent", status.peers),
            Progress::Layers { found, total } => format!("{found} of {total} hashes, {} peers", status.peers),
            Progress::Done => "found".to_owned(),
        };
        if let Some(error) = status.trackers.iter().find_map(|tracker| tracker.error.as_deref()) {
            text.extend(["; tracker: ", error]);
        }
        bar.set_message(text);
        bar.tick();
    }

    /// Takes it off the screen.
    pub fn finish(&self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// How long it takes at the rate of now; `None` while nothing comes in, and when nothing is missing.
pub fn seconds_left(stats: &Stats) -> Option<u64> {
    (stats.lacking > 0).then(|| stats.lacking.checked_div(stats.download_rate)).flatten()
}

fn describe(name: &str, stats: &Stats) -> String {
    let name: String = name.chars().take(NAME).collect();
    let (have, wanted) = (bytes(stats.wanted - stats.lacking), bytes(stats.wanted));
    let peers = format!("{} peers ({} seeds)", stats.peers, stats.seeds);
    let up = format!("up {}/s, {} sent", bytes(stats.upload_rate), bytes(stats.uploaded));
    let mut text = match stats.phase {
        Phase::Checking => format!("{name}: checking, {have}/{wanted} are here"),
        Phase::Leeching => {
            let left = seconds_left(stats)
                .map_or_else(|| "time unknown".to_owned(), |left| format!("{} left", duration(left)));
            format!("{name}: {have}/{wanted}, {}/s, {left}, {peers}, {up}", bytes(stats.download_rate))
        }
        Phase::Complete => format!("{name}: seeding {wanted}, {peers}, {up}"),
    };
    if let Some(trouble) = &stats.trouble {
        text.extend(["; ", &trouble.to_string()]);
    } else if let Some(error) = stats.trackers.iter().find_map(|tracker| tracker.error.as_deref()) {
        text.extend(["; tracker: ", error]);
    }
    text
}
