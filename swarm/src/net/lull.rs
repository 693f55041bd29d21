//! How often a torrent looks whether there is something to do: a thousand of them that rest must cost next to nothing.

use std::time::Duration;

/// A pause that doubles while nothing happens.
#[derive(Debug, Clone, Copy)]
pub struct Lull {
    least: Duration,
    pause: Duration,
}

impl Lull {
    /// Pauses of `least` at least.
    pub fn new(least: Duration) -> Self {
        Self { least, pause: least }
    }

    /// The pause before the next look, of `most` at most. `happened`: whether the last one found something.
    pub fn after(&mut self, happened: bool, most: Duration) -> Duration {
        self.pause = if happened { self.least } else { (self.pause * 2).min(most) };
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
        const SECOND: Duration = Duration::from_secs(1);
        let mut lull = Lull::new(SECOND / 2);
        let quiet: Vec<_> = (0..5).map(|_| lull.after(false, SECOND * 5).as_millis()).collect();
        assert_eq!(quiet, [1000, 2000, 4000, 5000, 5000]);
        let more: Vec<_> = (0..3).map(|_| lull.after(false, SECOND * 30).as_secs()).collect();
        assert_eq!(more, [10, 20, 30], "as long as it may be then");
        assert_eq!(lull.after(false, SECOND * 5), SECOND * 5);
        assert_eq!(lull.after(true, SECOND * 5), SECOND / 2);
        lull.after(false, SECOND * 5);
        lull.end();
        assert_eq!(lull.after(false, SECOND * 5), SECOND / 2);
    }
}
