//! How often a torrent looks whether there is something to do: a thousand of them that rest must cost next to nothing.

use std::time::Duration;

/// A pause that doubles while nothing happens.
#[derive(Debug, Clone, Copy)]
pub struct Lull {
    least: Duration,
    most: Duration,
    pause: Duration,
}

impl Lull {
    /// Pauses of `least` to `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, pause: least }
    }

    /// The pause before the next look. `happened`: whether the last one found something.
    pub fn after(&mut self, happened: bool) -> Duration {
        self.pause = if happened { self.least } else { (self.pause * 2).min(self.most) };
        self.pause
    }

    /// Something happens now: the next pause is a short one.
    pub fn end(&mut self) {
        self.pause = self.least / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_happens_and_are_short_again_when_something_does() {
        let mut lull = Lull::new(Duration::from_millis(500), Duration::from_secs(5));
        let quiet: Vec<_> = (0..5).map(|_| lull.after(false).as_millis()).collect();
        assert_eq!(quiet, [1000, 2000, 4000, 5000, 5000]);
        assert_eq!(lull.after(true).as_millis(), 500);
        lull.after(false);
        lull.end();
        assert_eq!(lull.after(false).as_millis(), 500);
    }
}
