//! A list that grows in pieces. Pure.
//!
//! A vector of a large swarm would be copied each time that it grows, and the memory that it leaves behind fits nothing else: of a
//! hundred thousand peers that came one by one, four fifths of the memory was such.

/// Items in a piece but the last: 16 KiB of IPv4 peers, and more than are ever asked for at a time.
const PIECE: usize = 1_024;

/// See the module. Small ones are one vector.
#[derive(Debug)]
pub struct Rows<T> {
    first: Vec<T>,
    /// The pieces behind it. All but the last are full, and none is empty.
    more: Vec<Vec<T>>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Rows { first: Vec::new(), more: Vec::new() }
    }
}

impl<T> Rows<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self.more.last() {
            None => self.first.len(),
            Some(last) => self.more.len() * PIECE + last.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The one at `position`.
    pub fn get(&self, position: usize) -> Option<&T> {
        self.piece(position / PIECE)?.get(position % PIECE)
    }

    /// A place for the one at `position`.
    pub fn get_mut(&mut self, position: usize) -> Option<&mut T> {
        self.piece_mut(position / PIECE)?.get_mut(position % PIECE)
    }

    /// Those from `start` on, at most `len` and no more than to the end of the next piece.
    pub fn run(&self, start: usize, len: usize) -> impl Iterator<Item = &T> {
        let (number, start) = (start / PIECE, start % PIECE);
        let here = self.piece(number).and_then(|piece| piece.get(start..)).unwrap_or_default();
        let here = &here[..here.len().min(len)];
        // Hardly ever: a run is short.
        let behind = if here.len() == len { None } else { self.piece(number + 1) }.unwrap_or_default();
        here.iter().chain(&behind[..behind.len().min(len - here.len())])
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.more.iter().flatten())
    }

    /// Adds one at the end.
    pub fn push(&mut self, item: T) {
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.len() < PIECE {
            return grow(last, item);
        }
        let mut piece = Vec::new();
        grow(&mut piece, item);
        self.more.push(piece);
    }

    /// Takes the one at `position` out; the last one takes its place. None if there is none.
    pub fn swap_remove(&mut self, position: usize) -> Option<T> {
        let last = self.more.last_mut().unwrap_or(&mut self.first).pop()?;
        if self.more.last().is_some_and(Vec::is_empty) {
            drop(self.more.pop());
        }
        if position == self.len() {
            return Some(last);
        }
        if let Some(place) = self.get_mut(position) {
            return Some(std::mem::replace(place, last));
        }
        // There is none: the last goes back.
        self.push(last);
        None
    }

    /// Gives back memory where three fourths are not used.
    pub fn trim(&mut self) {
        for piece in std::iter::once(&mut self.first).chain(&mut self.more) {
            if piece.len() < piece.capacity() / 4 {
                piece.shrink_to(piece.len() + piece.len() / 4);
            }
        }
    }

    fn piece(&self, number: usize) -> Option<&[T]> {
        match number.checked_sub(1) {
            None => Some(&self.first),
            Some(number) => self.more.get(number).map(Vec::as_slice),
        }
    }

    fn piece_mut(&mut self, number: usize) -> Option<&mut Vec<T>> {
        match number.checked_sub(1) {
            None => Some(&mut self.first),
            Some(number) => self.more.get_mut(number),
        }
    }
}

/// By a quarter, not by half: what is to spare is memory too.
fn grow<T>(piece: &mut Vec<T>, item: T) {
    if piece.len() == piece.capacity() {
        piece.reserve_exact((piece.len() / 4 + 2).min(PIECE - piece.len()));
    }
    piece.push(item);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Remove(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..2 * PIECE).prop_map(Step::Push),
            (1..2 * PIECE, any::<usize>()).prop_map(|(count, position)| Step::Remove(count, position)),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_vector_would_hold(steps in steps(), start in 0..3 * PIECE, len in 0..PIECE) {
            let (mut rows, mut vector) = (Rows::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(count) => (0..count).for_each(|item| {
                        rows.push(item);
                        vector.push(item);
                    }),
                    Step::Remove(count, position) => for _ in 0..count.min(vector.len()) {
                        let position = position % vector.len();
                        prop_assert_eq!(rows.swap_remove(position), Some(vector.swap_remove(position)));
                    }
                }
                rows.trim();
                prop_assert_eq!(rows.len(), vector.len());
                prop_assert_eq!(rows.is_empty(), vector.is_empty());
                prop_assert!(rows.iter().eq(&vector));
                prop_assert_eq!(rows.get(start), vector.get(start));
                prop_assert!(rows.run(start, len).eq(vector.iter().skip(start).take(len)));
                prop_assert_eq!(rows.swap_remove(vector.len()), None);
                prop_assert!(rows.iter().eq(&vector));
            }
        }
    }

    #[test]
    fn a_large_one_has_little_to_spare_and_leaves_nothing_behind() {
        let mut rows = Rows::default();
        (0..100_000).for_each(|item| rows.push(item));
        let capacity: usize = std::iter::once(&rows.first).chain(&rows.more).map(Vec::capacity).sum();
        assert!(capacity < 100_000 + PIECE, "{capacity}");
        while rows.len() > 10 {
            rows.swap_remove(0);
        }
        rows.trim();
        assert!(rows.more.is_empty() && rows.first.capacity() <= 12);
    }
}
