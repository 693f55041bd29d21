//! Lines about what moves: a bar on a terminal; elsewhere a line every few seconds, or nothing where the result says it all.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use swarm::{Phase, Stats};

use crate::{output, torrent_command::Watch, units::bytes};

/// How often it is said where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

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

/// Follows one torrent.
pub struct Line {
    bar: Option<ProgressBar>,
    said: Option<(Instant, Phase)>,
}

impl Line {
    /// Nothing shown yet.
    pub fn new() -> Self {
        let bar = output::is_interactive().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{bar:30} {msg}").expect("the template is valid"));
            bar
        });
        Self { bar, said: None }
    }

    /// Shows the figures of now.
    pub fn show(&mut self, stats: &Stats) {
        let text = describe(stats);
        if let Some(bar) = &self.bar {
            bar.set_length(stats.total);
            bar.set_position(stats.have);
            bar.set_message(text);
            return;
        }
        let due = self.said.is_none_or(|(at, phase)| at.elapsed() >= INTERVAL || phase != stats.phase);
        if due {
            output::say(&text);
            self.said = Some((Instant::now(), stats.phase));
        }
    }

    /// Leaves the last figures on the screen.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn describe(stats: &Stats) -> String {
    let phase = match stats.phase {
        Phase::Checking => "checking",
        Phase::Leeching => "downloading",
        Phase::Complete => "seeding",
    };
    let mut text = format!(
        "{phase} {}/{}, {} peers, down {}/s, up {}/s ({} sent)",
        bytes(stats.have),
        bytes(stats.total),
        stats.peers,
        bytes(stats.download_rate),
        bytes(stats.upload_rate),
        bytes(stats.uploaded),
    );
    if let Some(trouble) = &stats.trouble {
        text.extend(["; ", &trouble.to_string()]);
    } else if let Some(error) = stats.trackers.iter().find_map(|tracker| tracker.error.as_deref()) {
        text.extend(["; tracker: ", error]);
    }
    text
}
