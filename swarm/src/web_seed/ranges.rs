//! Which bytes of which file come next in a run of pieces.

use torrent::{PieceMap, Segment};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Padding (BEP 47): so many zeros, which no server is asked for.
    Zeros(u32),
    /// A range of a file, over as many pieces as lie in it one after the other.
    Ask {
        /// Index into [`torrent::Metainfo::files`].
        file: usize,
        /// Where it starts in the file.
        offset: u64,
        /// Bytes, at least one.
        len: u64,
    },
}

/// The step from byte `begin` of the first of `pieces` on, which are in ascending order; `None` if there is nothing to do.
pub fn step(map: &PieceMap, pieces: impl IntoIterator<Item = u32>, begin: u32) -> Option<Step> {
    let mut pieces = pieces.into_iter();
    let first = pieces.next()?;
    let rest = map.len(first).checked_sub(begin).filter(|rest| *rest > 0)?;
    let Some(segment) = map.segments(first).find(|segment| end(segment) > begin) else {
        return Some(Step::Zeros(rest));
    };
    if segment.offset_in_piece > begin {
        return Some(Step::Zeros(segment.offset_in_piece - begin));
    }
    let inside = begin - segment.offset_in_piece;
    let mut len = u64::from(segment.len - inside);
    let (mut last, mut reaches) = (first, end(&segment) == map.len(first));
    for piece in pieces {
        let next = map.segments(piece).next().filter(|next| next.file == segment.file);
        let Some(next) = next.filter(|next| reaches && piece == last + 1 && next.offset_in_piece == 0) else {
            break;
        };
        len += u64::from(next.len);
        (last, reaches) = (piece, end(&next) == map.len(piece));
    }
    Some(Step::Ask { file: segment.file, offset: segment.offset_in_file + u64::from(inside), len })
}

fn end(segment: &Segment) -> u32 {
    segment.offset_in_piece + segment.len
}

#[cfg(test)]
mod tests {
    use torrent::{Builder, Metainfo, RelPath, Version};

    use super::*;

    const PIECE: u64 = 16 * 1024;

    fn metainfo(version: Version, sizes: &[u64]) -> Metainfo {
        let builder = Builder::new(version, PIECE).unwrap();
        let mut whole = builder.v1_hasher();
        let mut hashed = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let bytes = vec![index as u8; *size as usize];
            let mut one = builder.file_hasher(sizes.len());
            one.update(&bytes);
            whole.update(&bytes);
            hashed.push((RelPath::parse(&format!("f{index}")).unwrap(), one.finish()));
        }
        let v1 = builder.needs_v1_pass(sizes.len());
        let builder = if v1 { builder.v1_pieces(whole.finish()) } else { builder };
        builder.build(hashed).unwrap()
    }

    /// All steps over all pieces.
    fn steps(metainfo: &Metainfo) -> Vec<Step> {
        let map = metainfo.pieces();
        let (mut piece, mut begin, mut steps) = (0, 0, Vec::new());
        while let Some(step) = step(map, piece..map.count(), begin) {
            steps.push(step);
            let mut left = match step {
                Step::Zeros(zeros) => u64::from(zeros),
                Step::Ask { len, .. } => len,
            };
            while left > 0 {
                let part = left.min(u64::from(map.len(piece) - begin));
                left -= part;
                begin += part as u32;
                if begin == map.len(piece) {
                    (piece, begin) = (piece + 1, 0);
                }
            }
        }
        assert_eq!(piece, map.count());
        steps
    }

    #[test]
    fn a_file_over_several_pieces_is_one_range_and_padding_is_not_asked_for() {
        let tree = metainfo(Version::Hybrid, &[0, 2 * PIECE + 5, 1, 0, PIECE]);
        let wanted = [(1, 2 * PIECE + 5), (2, 1), (4, PIECE)];
        assert_eq!(steps(&tree), wanted.map(|(file, len)| Step::Ask { file, offset: 0, len }));
    }

    #[test]
    fn a_piece_of_v1_spans_files() {
        let tree = metainfo(Version::V1, &[10, 0, PIECE, 7]);
        let wanted = [(0, 10), (2, PIECE), (3, 7)];
        assert_eq!(steps(&tree), wanted.map(|(file, len)| Step::Ask { file, offset: 0, len }));
    }

    #[test]
    fn a_run_starts_and_ends_inside_a_file() {
        let one = metainfo(Version::Hybrid, &[5 * PIECE]);
        let ask = |offset, len| Some(Step::Ask { file: 0, offset, len });
        assert_eq!(step(one.pieces(), 1..3, 100), ask(PIECE + 100, 2 * PIECE - 100));
        assert_eq!(step(one.pieces(), [1, 2, 4], 0), ask(PIECE, 2 * PIECE));
        assert_eq!(step(one.pieces(), [], 0), None);
        assert_eq!(step(one.pieces(), [9], 0), None);
    }

    /// libtorrent's v1 torrents pad each file to a piece, and the last one too.
    #[test]
    fn padding_of_v1_is_zeros() {
        let mut info =
            b"d5:filesld6:lengthi10e4:pathl1:aeed4:attr1:p6:lengthi16374e4:pathl4:.pad5:16374ee".to_vec();
        info.extend_from_slice(b"d6:lengthi5e4:pathl1:beed4:attr1:p6:lengthi16379e4:pathl4:.pad5:16379eee");
        info.extend_from_slice(b"4:name1:t12:piece lengthi16384e6:pieces40:");
        info.extend_from_slice(&[7; 40]);
        let bytes = [b"d4:info".to_vec(), info, b"ee".to_vec()].concat();
        let tree = Metainfo::parse(&bytes, &torrent::Limits::OWN).unwrap();
        let ask = |file, len| Step::Ask { file, offset: 0, len };
        assert_eq!(steps(&tree), [ask(0, 10), Step::Zeros(16374), ask(1, 5), Step::Zeros(16379)]);
    }
}
