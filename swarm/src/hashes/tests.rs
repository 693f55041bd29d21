use torrent::Version;

use super::*;
use crate::test_torrent;

const PIECE: u64 = 32 << 10;

/// A torrent of files with these sizes, and the leaves of each.
fn torrent(sizes: &[usize]) -> (Arc<Metainfo>, Vec<Vec<Hash>>) {
    let files: Vec<Vec<u8>> = sizes
        .iter()
        .enumerate()
        .map(|(file, size)| (0..*size).map(|at| (at / 7 + file * 31) as u8 ^ (at >> 14) as u8).collect())
        .collect();
    let leaves = files.iter().map(|bytes| bytes.chunks(16 << 10).map(merkle::leaf).collect());
    (test_torrent::of(Version::V2, PIECE, &files), leaves.collect())
}

/// Every node of a padded tree, layer by layer.
fn whole(leaves: &[Hash]) -> Vec<Vec<Hash>> {
    let mut layers = vec![leaves.to_vec()];
    layers[0].resize(leaves.len().next_power_of_two(), merkle::pad(0));
    while layers.last().unwrap().len() > 1 {
        let below = layers.last().unwrap();
        layers.push(below.chunks(2).map(|pair| merkle::parent(&pair[0], &pair[1])).collect());
    }
    layers
}

/// What a receiver makes of an answer: the root that it leads to.
fn climbed(request: &HashRequest, hashes: &[Hash]) -> Hash {
    let (own, proof) = hashes.split_at(request.length as usize);
    let node = merkle::subtree_root(own, request.base, request.length.ilog2());
    merkle::root_from_proof(&node, (request.index / request.length) as usize, proof)
}

#[test]
fn every_sane_request_is_answered_and_the_answer_leads_to_the_root() {
    let (metainfo, leaves) = torrent(&[1, 40_000, 32 << 10, 400_000, (32 << 10) * 5 + 1]);
    let trees = Trees::new(metainfo.clone());
    let mut answered = 0;
    for (file, leaves) in metainfo.files().iter().zip(&leaves) {
        let (root, layers) = (file.pieces_root.unwrap(), whole(leaves));
        let height = layers.len() as u32 - 1;
        let pieces = metainfo.pieces().of_file(file.path.as_str().parse().unwrap());
        for base in 0..height {
            for length in (1..=height - base).map(|power| 1u32 << power) {
                for index in (0..1u32 << (height - base)).step_by(length as usize) {
                    let request = HashRequest { root, base, index, length, proofs: height - base - 1 };
                    let hashes = match trees.answer(&request) {
                        Answer::Hashes(hashes) => hashes,
                        Answer::OfPiece(piece) => {
                            let first = 2 * (piece - pieces.start) as usize;
                            trees.answer_from(&request, &leaves[first..leaves.len().min(first + 2)])
                        }
                        // Leaves of more than one piece, or of padding only.
                        Answer::Reject => {
                            assert!(
                                base == 0 && (length > 2 || index as usize >= leaves.len()),
                                "{request:?}"
                            );
                            continue;
                        }
                    };
                    let at = index as usize;
                    assert_eq!(hashes[..length as usize], layers[base as usize][at..at + length as usize]);
                    assert_eq!(climbed(&request, &hashes), root, "{request:?}");
                    answered += 1;
                }
            }
        }
    }
    assert!(answered > 50, "{answered}");
}

#[test]
fn a_large_layer_is_answered_in_chunks_of_512() {
    let pieces = 1_500;
    let (metainfo, leaves) = torrent(&[pieces * PIECE as usize - 5]);
    let (trees, layers) = (Trees::new(metainfo.clone()), whole(&leaves[0]));
    let root = metainfo.files()[0].pieces_root.unwrap();
    for (length, base) in [(512, 1), (2, 1), (2, 10), (64, 3)] {
        let height = 12;
        for index in (0..1u32 << (height - base)).step_by(length as usize) {
            let request = HashRequest { root, base, index, length, proofs: height - base - 1 };
            let Answer::Hashes(hashes) = trees.answer(&request) else { panic!("{request:?}") };
            let at = index as usize;
            assert_eq!(hashes[..length as usize], layers[base as usize][at..at + length as usize]);
            assert_eq!(climbed(&request, &hashes), root, "{request:?}");
        }
    }
}

#[test]
fn t033_what_lies_outside_the_tree_is_rejected() {
    let (metainfo, _) = torrent(&[400_000, 10]);
    let trees = Trees::new(metainfo.clone());
    let root = metainfo.files()[0].pieces_root.unwrap();
    // 25 blocks: 32 leaves, height 5, 13 pieces at layer 1.
    let good = HashRequest { root, base: 1, index: 0, length: 16, proofs: 0 };
    assert!(matches!(trees.answer(&good), Answer::Hashes(hashes) if hashes.len() == 16));
    let of_one_block = metainfo.files()[1].pieces_root.unwrap();
    for bad in [
        HashRequest { root: [7; 32], ..good },
        HashRequest { root: of_one_block, base: 0, length: 2, ..good },
        HashRequest { base: 5, length: 2, ..good },
        HashRequest { base: 63, length: 2, ..good },
        HashRequest { length: 32, ..good },
        HashRequest { index: 16, ..good },
        HashRequest { index: u32::MAX - 15, ..good },
        HashRequest { proofs: 4, ..good },
        HashRequest { base: 0, index: 26, length: 2, ..good },
    ] {
        assert_eq!(trees.answer(&bad), Answer::Reject, "{bad:?}");
    }
}

#[test]
fn the_leaves_of_each_piece_are_asked_for_and_no_wrong_ones_taken() {
    let (metainfo, leaves) = torrent(&[1, 40_000, 32 << 10, 400_000]);
    let trees = Trees::new(metainfo.clone());
    let map = metainfo.pieces();
    let mut asked = 0;
    for (index, file_leaves) in leaves.iter().enumerate() {
        for (piece, own) in map.of_file(index).zip(file_leaves.chunks(2)) {
            let Some(request) = trees.leaf_request(piece) else {
                assert_eq!(own.len(), 1, "one leaf is the root, or stands in the layer");
                continue;
            };
            assert_eq!(trees.answer(&request), Answer::OfPiece(piece));
            let mut answer = trees.answer_from(&request, own);
            assert_eq!(trees.leaves(piece, answer.as_flattened()).as_deref(), Some(own));
            assert_eq!(trees.leaves(piece, &answer.as_flattened()[..31]), None);
            answer[0][7] ^= 1;
            assert_eq!(trees.leaves(piece, answer.as_flattened()), None);
            asked += 1;
        }
    }
    assert!(asked > 10);
}
