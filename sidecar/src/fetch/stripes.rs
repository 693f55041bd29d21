//! Which part of the content a fetcher reads next. Pure.
//!
//! Files are cut into stripes. Those of large content become shorter towards the end: all fetchers are to be through at the same time, and
//! one that reads alone at the end reads at the pace of one connection. With several fetchers each has every n-th stripe, so that all of them read on a
//! broad front; who is through with its own helps with those that someone has left lying, because whoever hashes whole files goes by the
//! first gap, and with those that nobody has begun, from the back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use torrent::PieceMap;

/// Bytes of a stripe at most: at 100 MB/s two requests in three seconds...
const STRIPE: u64 = 64 << 20;
/// ...and at least, unless a file ends sooner: two seconds at 4 MB/s.
const SHORTEST: u64 = 8 << 20;
/// Of what is left of the content a stripe takes one part in so many: one for each of the most fetchers that there can be. Of content whose
/// first stripe would be a short one all are long: the more ends, the more often two fetchers begin the same stripe while one comes or goes.
const PARTS: u64 = 8;
/// So many stripes before and behind the next one are watched: others read near it.
const NEAR: usize = 256;
/// One that someone has begun, whosever it is, and that gets on no more is taken over after the time of so many pieces, as they came there or
/// come here...
const LEFT_LYING: u32 = 3;
/// ...but not sooner or later than this.
const LEFT_WITHIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How often it is looked how far the others are.
const LOOK: Duration = Duration::from_millis(500);

/// Which of the fetchers this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// From 0; the first one makes metainfo and manifest.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl Seat {
    /// Whether a stripe is to be read by this fetcher first.
    pub fn owns(self, stripe: usize) -> bool {
        stripe as u64 % u64::from(self.of) == u64::from(self.index)
    }
}

/// Who takes a stripe, and which it may be.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Which of the fetchers this node is.
    pub seat: Seat,
    /// Not of a file that another reader of this node is at.
    pub apart: bool,
    /// The origin gives no parts, and this node reads all of it, from the front.
    pub sequential: bool,
}

/// A part of a file.
#[derive(Clone, Debug)]
struct Stripe {
    file: usize,
    pieces: Range<u32>,
}

/// The stripes of one content, and who is at which.
#[derive(Debug)]
pub struct Stripes {
    all: Vec<Stripe>,
    /// Those that readers of this node are at.
    taken: BTreeSet<usize>,
    /// Everything before it among our own is read, or was a moment ago, or somebody is at it.
    next: usize,
    /// Those that someone has begun.
    watched: BTreeMap<usize, Watched>,
    /// When that was looked at last.
    looked: Duration,
    /// Of a piece, as it takes this node.
    pace: Duration,
}

/// What was seen of a stripe that someone has begun.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// Pieces that were still to be read.
    left: u32,
    /// When that was first seen.
    since: Duration,
    /// The longest time between two pieces.
    gap: Duration,
}

/// How much of a stripe is still to be read: pieces that nobody has read, or that are lost.
pub trait Unread {
    /// So many of these pieces.
    fn unread(&self, pieces: &Range<u32>) -> u32;
}

impl Stripes {
    /// Of all files of a torrent.
    pub fn new(map: &PieceMap, files: usize) -> Self {
        let all = cut(map, files);
        let (looked, pace) = (Duration::ZERO, Duration::ZERO);
        Self { all, taken: BTreeSet::new(), next: 0, watched: BTreeMap::new(), looked, pace }
    }

    /// The fetchers are others now.
    pub fn reseat(&mut self) {
        self.next = 0;
    }

    /// A piece has taken so long to read.
    pub fn took(&mut self, time: Duration) {
        self.pace = if self.pace.is_zero() { time } else { (self.pace * 7 + time) / 8 };
    }

    /// Looks now and then, while this fetcher reads, how far others are with what they have begun: who is through with a stripe is to know
    /// what has been left lying since.
    pub fn look(&mut self, unread: &impl Unread, now: Duration) {
        if now.saturating_sub(self.looked) >= LOOK {
            self.watch(unread, now);
        }
    }

    /// Takes the next stripe that has to be read; `None` if there is none now.
    pub fn take(&mut self, turn: Turn, unread: &impl Unread, now: Duration) -> Option<usize> {
        if turn.seat.of == 1 {
            // A file is a stripe at least: who reads a hundred thousand of them alone does not look around for each.
            self.look(unread, now);
        } else {
            self.watch(unread, now);
        }
        let busy: BTreeSet<usize> =
            self.taken.iter().filter(|_| turn.apart).map(|stripe| self.all[*stripe].file).collect();
        let mut own = self.own(turn, &busy, unread, now);
        if own.is_none() && self.next > 0 {
            // Again from the start: what failed is free again.
            self.next = 0;
            self.watch(unread, now);
            own = self.own(turn, &busy, unread, now);
        }
        let stripe = own.or_else(|| self.of_others(&busy, unread, now))?;
        self.taken.insert(stripe);
        Some(stripe)
    }

    /// The next one that is this fetcher's to read. One that reads alone goes on with what was begun before, but not with what someone is at: of
    /// how many they are each fetcher hears in a moment of its own.
    fn own(
        &mut self,
        Turn { seat, sequential, .. }: Turn,
        busy: &BTreeSet<usize>,
        unread: &impl Unread,
        now: Duration,
    ) -> Option<usize> {
        let is_to_read = |stripe: &usize| {
            let left = self.left(*stripe, unread);
            let is_whole = left == self.all[*stripe].pieces.len() as u32;
            left > 0 && (is_whole || (seat.of == 1 && (sequential || !self.gets_on(*stripe, now))))
        };
        let own = (self.next..self.all.len()).filter(|stripe| seat.owns(*stripe));
        let mut own = own.filter(is_to_read).peekable();
        let first = own.peek().copied();
        let stripe = own.find(|stripe| !busy.contains(&self.all[*stripe].file))?;
        // Who is at the file of those before it goes on with them.
        self.next = first.filter(|first| *first < stripe).unwrap_or(stripe + 1);
        self.watched.remove(&stripe);
        Some(stripe)
    }

    /// What someone has left lying, or nobody has begun, whosever it is.
    fn of_others(&mut self, busy: &BTreeSet<usize>, unread: &impl Unread, now: Duration) -> Option<usize> {
        let begun: Vec<usize> = self.watched.keys().copied().collect();
        let mut all = begun.into_iter().chain((0..self.all.len()).rev());
        let stripe =
            all.find(|stripe| !busy.contains(&self.all[*stripe].file) && self.is_free(*stripe, unread, now))?;
        self.watched.remove(&stripe);
        Some(stripe)
    }

    /// Looks how far others are with what they have begun.
    fn watch(&mut self, unread: &impl Unread, now: Duration) {
        self.looked = now;
        let near = self.next.saturating_sub(NEAR)..self.all.len().min(self.next + NEAR);
        for stripe in near {
            let left = self.left(stripe, unread);
            if left < self.all[stripe].pieces.len() as u32 {
                self.note(stripe, left, now);
            }
        }
    }

    /// Whether a stripe is to be read, and nobody is likely to be at it.
    fn is_free(&mut self, stripe: usize, unread: &impl Unread, now: Duration) -> bool {
        let left = self.left(stripe, unread);
        if left == 0 || left == self.all[stripe].pieces.len() as u32 {
            self.watched.remove(&stripe);
            return left > 0;
        }
        let seen = self.note(stripe, left, now);
        now.saturating_sub(seen.since) >= patience(self.pace.max(seen.gap))
    }

    /// Whether pieces of a stripe have come here lately that no reader of this node has read. What takes another much longer than this node is not
    /// waited for.
    fn gets_on(&self, stripe: usize, now: Duration) -> bool {
        let seen = self.watched.get(&stripe).filter(|seen| !seen.gap.is_zero());
        seen.is_some_and(|seen| now.saturating_sub(seen.since) < patience(self.pace))
    }

    /// Pieces of a stripe that are still to be read, and that no reader of this node is at.
    fn left(&self, stripe: usize, unread: &impl Unread) -> u32 {
        if self.taken.contains(&stripe) { 0 } else { unread.unread(&self.all[stripe].pieces) }
    }

    /// So many are left; the answer is what is known of that.
    fn note(&mut self, stripe: usize, left: u32, now: Duration) -> Watched {
        let fresh = Watched { left, since: now, gap: Duration::ZERO };
        if left == 0 {
            self.watched.remove(&stripe);
            return fresh;
        }
        let seen = self.watched.entry(stripe).or_insert(fresh);
        if left < seen.left {
            let gap = now.saturating_sub(seen.since) / (seen.left - left);
            *seen = Watched { left, since: now, gap: seen.gap.max(gap) };
        }
        // More than before: some were lost.
        seen.left = left;
        *seen
    }

    /// The pieces of a stripe.
    pub fn pieces(&self, stripe: usize) -> Range<u32> {
        self.all[stripe].pieces.clone()
    }

    /// A reader is through with a stripe, or has given up.
    pub fn leave(&mut self, stripe: usize) {
        self.taken.remove(&stripe);
    }
}

/// For how long nothing may come of a stripe that someone has begun, where a piece takes so long.
fn patience(piece: Duration) -> Duration {
    let (soonest, latest) = LEFT_WITHIN;
    (piece * LEFT_LYING).clamp(soonest, latest)
}

/// The stripes of all files: all fetchers make the same. A file that one of the longest holds is one, however near the end it is: origins
/// that give no parts give it too.
fn cut(map: &PieceMap, files: usize) -> Vec<Stripe> {
    let length = map.piece_length();
    let pieces = |bytes: u64| (bytes / length).max(1) as u32;
    let mut left: u64 = (0..files).map(|file| map.of_file(file).len() as u64 * length).sum();
    let shortest = if left < STRIPE * PARTS { STRIPE } else { SHORTEST };
    let mut all = Vec::new();
    for file in 0..files {
        let Range { mut start, end } = map.of_file(file);
        let is_short = end - start <= pieces(STRIPE);
        while start < end {
            let step = if is_short { end - start } else { pieces((left / PARTS).clamp(shortest, STRIPE)) };
            let stripe = start..end.min(start + step);
            start = stripe.end;
            left -= stripe.len() as u64 * length;
            all.push(Stripe { file, pieces: stripe });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use torrent::{Builder, RelPath, Version};

    use super::*;

    const ALONE: Seat = Seat { index: 0, of: 1 };
    const ZERO: Duration = Duration::ZERO;

    struct Content(BTreeSet<u32>);

    impl Unread for Content {
        fn unread(&self, pieces: &Range<u32>) -> u32 {
            pieces.clone().filter(|piece| self.0.contains(piece)).count() as u32
        }
    }

    fn stripes(sizes: &[u64]) -> (Stripes, Content) {
        let path = |at: usize| RelPath::parse(&format!("{at:03}")).unwrap();
        let files = sizes.iter().enumerate().map(|(at, size)| (path(at), *size)).collect();
        let plan = Builder::new(Version::Hybrid, 1 << 20).unwrap().plan(files).unwrap();
        let content = Content((0..plan.pieces().count()).collect());
        (Stripes::new(plan.pieces(), sizes.len()), content)
    }

    fn take(stripes: &mut Stripes, seat: Seat, content: &Content, now: Duration) -> Option<usize> {
        stripes.take(Turn { seat, apart: false, sequential: false }, content, now)
    }

    fn take_all(stripes: &mut Stripes, content: &Content, seat: Seat) -> Vec<Range<u32>> {
        let mut taken = Vec::new();
        while let Some(stripe) = take(stripes, seat, content, ZERO) {
            taken.push(stripes.pieces(stripe));
        }
        taken
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn stripes_cover_all_files_once_and_none_lies_in_two() {
        let (mut stripes, content) = stripes(&[5, 65 * MIB, 0, 64 * MIB]);
        let taken = take_all(&mut stripes, &content, ALONE);
        assert_eq!(taken, [0..1, 1..65, 65..66, 66..130]);
        assert_eq!(take(&mut stripes, ALONE, &content, ZERO), None, "all are taken");
        stripes.leave(2);
        assert_eq!(take(&mut stripes, ALONE, &content, ZERO), Some(2), "it was given up");
    }

    #[test]
    fn apart_nobody_reads_a_file_that_another_reader_is_at() {
        let (mut stripes, mut content) = stripes(&[80 * MIB, 8 * MIB, 80 * MIB]);
        let apart = |stripes: &mut Stripes, content: &Content| {
            let turn = Turn { seat: ALONE, apart: true, sequential: false };
            stripes.take(turn, content, ZERO).map(|stripe| stripes.pieces(stripe).start)
        };
        let firsts = [0, 80, 88].map(Some);
        assert_eq!([(); 3].map(|()| apart(&mut stripes, &content)), firsts);
        assert_eq!(apart(&mut stripes, &content), None);
        stripes.leave(0);
        content.0.retain(|piece| *piece >= 64);
        assert_eq!(apart(&mut stripes, &content), Some(64), "it goes on with its file");
        assert!(take(&mut stripes, ALONE, &content, ZERO).is_some(), "with parts the others help");
    }

    #[test]
    fn stripes_become_shorter_until_the_last_ones_take_a_moment() {
        let (mut stripes, content) = stripes(&[2048 * MIB]);
        let taken = take_all(&mut stripes, &content, ALONE);
        let pieces: Vec<usize> = taken.iter().map(ExactSizeIterator::len).collect();
        assert_eq!(pieces.iter().sum::<usize>(), 2048);
        assert!(pieces.is_sorted_by(|one, next| one >= next), "{pieces:?}");
        assert_eq!([pieces[0], pieces[pieces.len() - 9], pieces[pieces.len() - 2]], [64, 8, 8]);
    }

    #[test]
    fn fetchers_begin_with_their_own_and_help_from_the_back() {
        let (mut first, content) = stripes(&[8 * MIB; 6]);
        let seat = Seat { index: 1, of: 3 };
        let order: Vec<u32> =
            take_all(&mut first, &content, seat).iter().map(|pieces| pieces.start / 8).collect();
        assert_eq!(order, [1, 4, 5, 3, 2, 0]);
    }

    #[test]
    fn what_another_is_at_is_left_to_it_until_it_lies_there_too_long() {
        let (mut stripes, mut content) = stripes(&[8 * MIB; 2]);
        let seat = Seat { index: 0, of: 2 };
        assert_eq!(take(&mut stripes, seat, &content, ZERO), Some(0));
        content.0.remove(&8);
        assert_eq!(take(&mut stripes, seat, &content, ZERO), None);
        content.0.remove(&9);
        let second = Duration::from_secs(1);
        assert_eq!(take(&mut stripes, seat, &content, second), None, "it gets on");
        stripes.took(second);
        assert_eq!(take(&mut stripes, seat, &content, second * 3), None, "a piece takes a while here");
        assert_eq!(take(&mut stripes, seat, &content, second * 4), Some(1));
    }

    #[test]
    fn who_reads_alone_goes_on_with_what_was_begun_and_not_with_what_gets_on() {
        let (mut stripes, mut content) = stripes(&[8 * MIB; 3]);
        content.0.remove(&8);
        let tenth = Duration::from_millis(100);
        assert_eq!(take(&mut stripes, ALONE, &content, ZERO), Some(0));
        stripes.look(&content, tenth * 5);
        content.0.retain(|piece| *piece >= 8 && *piece != 16);
        stripes.leave(0);
        stripes.look(&content, tenth * 10);
        content.0.remove(&17);
        let second = tenth * 15;
        assert_eq!(take(&mut stripes, ALONE, &content, second), Some(1), "it was so at the start");
        assert_eq!(take(&mut stripes, ALONE, &content, second), None, "somebody is at the last one");
        let sequential = Turn { seat: ALONE, apart: true, sequential: true };
        let at_once = stripes.take(sequential, &content, second);
        assert_eq!(at_once, Some(2), "an origin that gives no parts is read from the front");
        stripes.leave(2);
        assert_eq!(take(&mut stripes, ALONE, &content, second), Some(2), "what this node gave up is free");
    }

    #[test]
    fn who_reads_alone_takes_over_what_gets_on_no_more_and_lost_pieces_are_no_progress() {
        let (mut stripes, mut content) = stripes(&[8 * MIB]);
        content.0.remove(&0);
        let second = Duration::from_secs(1);
        stripes.look(&content, second);
        content.0.remove(&1);
        assert_eq!(take(&mut stripes, ALONE, &content, second * 2), None, "somebody is at it");
        content.0.insert(1);
        assert_eq!(take(&mut stripes, ALONE, &content, second * 3), Some(0), "and was lost");
    }

    #[test]
    fn what_was_left_while_this_fetcher_was_at_its_own_is_taken_at_once() {
        let (mut stripes, mut content) = stripes(&[8 * MIB; 3]);
        let seat = Seat { index: 0, of: 2 };
        content.0.remove(&8);
        assert_eq!(take(&mut stripes, seat, &content, ZERO), Some(0));
        stripes.leave(0);
        content.0.retain(|piece| *piece >= 8);
        let second = Duration::from_secs(1);
        assert_eq!(take(&mut stripes, seat, &content, second * 4), Some(2));
        stripes.leave(2);
        content.0.retain(|piece| *piece < 16);
        assert_eq!(take(&mut stripes, seat, &content, second * 8), Some(1), "the other has gone long ago");
    }

    #[test]
    fn what_was_left_lying_is_read_before_what_nobody_has_begun() {
        let (mut stripes, mut content) = stripes(&[8 * MIB; 4]);
        let seat = Seat { index: 0, of: 2 };
        let tenth = Duration::from_millis(100);
        assert_eq!(take(&mut stripes, seat, &content, ZERO), Some(0));
        for step in 1..=5 {
            content.0.remove(&(7 + step));
            stripes.look(&content, tenth * step);
        }
        stripes.look(&content, tenth * 15);
        content.0.retain(|piece| *piece >= 8);
        stripes.leave(0);
        assert_eq!(take(&mut stripes, seat, &content, tenth * 16), Some(2), "its own comes first");
        content.0.retain(|piece| !(16..24).contains(piece));
        stripes.leave(2);
        assert_eq!(take(&mut stripes, seat, &content, tenth * 17), Some(1));
        assert_eq!(take(&mut stripes, seat, &content, tenth * 17), Some(3));
    }

    #[test]
    fn a_stripe_of_our_own_that_a_helper_has_begun_is_left_to_it() {
        let (mut stripes, mut content) = stripes(&[8 * MIB; 2]);
        let seat = Seat { index: 1, of: 2 };
        content.0.remove(&8);
        assert_eq!(take(&mut stripes, seat, &content, ZERO), Some(0));
        assert_eq!(take(&mut stripes, seat, &content, ZERO), None);
        assert_eq!(take(&mut stripes, seat, &content, LEFT_WITHIN.0), Some(1));
    }

    #[test]
    fn what_is_read_already_is_not_taken() {
        let (mut stripes, mut content) = stripes(&[8 * MIB; 3]);
        content.0.retain(|piece| *piece >= 16);
        assert_eq!(take(&mut stripes, ALONE, &content, ZERO), Some(2));
        assert_eq!(take(&mut stripes, ALONE, &content, ZERO), None);
        let (mut stripes, _) = self::stripes(&[1]);
        assert_eq!(take(&mut stripes, ALONE, &Content(BTreeSet::new()), ZERO), None);
    }
}
