//! What a person sees meanwhile: a bar for each node on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// The screen during a demo.
pub struct View {
    start: Instant,
    bars: Option<(MultiProgress, HashMap<String, ProgressBar>)>,
}

impl View {
    /// With lines only.
    pub fn new() -> Self {
        Self { start: Instant::now(), bars: None }
    }

    /// Adds a bar for each node, if there is a terminal to draw on.
    pub fn add_bars<'a>(&mut self, nodes: impl Iterator<Item = &'a str>, bytes: u64) {
        if !output::is_interactive() {
            return;
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix:10} {bar:40} {bytes:>10} {msg}")
            .expect("the template is valid");
        let bar = |name: &str| {
            let bar = all.add(ProgressBar::new(bytes)).with_style(style.clone()).with_prefix(name.to_owned());
            (name.to_owned(), bar)
        };
        let bars = nodes.map(bar).collect();
        self.bars = Some((all, bars));
    }

    /// Whether [`Self::bar`] shows anything.
    pub fn has_bars(&self) -> bool {
        self.bars.is_some()
    }

    /// Moves a node's bar.
    pub fn bar(&mut self, node: &str, here: u64, phase: &str) {
        if let Some(bar) = self.bars.as_ref().and_then(|(_, bars)| bars.get(node)) {
            bar.set_position(here);
            bar.set_message(phase.to_owned());
        }
    }

    /// Leaves the bars as they are and goes on below them.
    pub fn end_bars(&mut self) {
        if let Some((_, bars)) = self.bars.take() {
            bars.values().for_each(ProgressBar::abandon);
        }
    }

    /// Says that a step is reached; bars show that by themselves.
    pub fn phase(&self, text: &str) {
        if self.bars.is_none() {
            self.say(text);
        }
    }

    /// Says something in any case.
    pub fn say(&self, text: &str) {
        let line = format!("{:6.1} s  {text}", seconds(self.start.elapsed()));
        match &self.bars {
            Some((all, _)) if all.println(&line).is_ok() => {}
            _ => output::say(&line),
        }
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
