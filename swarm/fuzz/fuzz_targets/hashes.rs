//! Whatever hashes are asked for, what is answered is what a plain tree over the whole file has there.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use swarm::hashes::{Answer, Trees};
use swarm::wire::HashRequest;
use torrent::merkle::Hash;
use torrent::{Builder, RelPath, Version};

const BLOCK: usize = 16 * 1024;
/// In blocks: two.
const PIECE: usize = 2;
/// One block, one piece, a bit more, and trees of some layers.
const SIZES: [usize; 6] = [1, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 5 * BLOCK - 3, 67 * BLOCK];

// Which file, then the request. Layer, proofs and length are small; beyond that there is only "no".
fuzz_target!(|bytes: &[u8]| {
    let Some(&[file, base, proofs, length, high, low]) = bytes.first_chunk::<6>() else { return };
    let file = &FILES[usize::from(file) % FILES.len()];
    let index = u32::from(u16::from_be_bytes([high, low]));
    let (base, proofs) = (u32::from(base), u32::from(proofs));
    let length = 1_u32.checked_shl(length.into()).unwrap_or_default();
    file.check(HashRequest { root: file.root, base, index, length, proofs });
});

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| SIZES.map(File::new).into());

/// A torrent of one file, and its whole tree, leaves first.
struct File {
    root: Hash,
    trees: Trees,
    layers: Vec<Vec<Hash>>,
    blocks: usize,
}

impl File {
    fn new(size: usize) -> Self {
        let bytes: Vec<u8> = (0..size).map(|at| (at / BLOCK) as u8).collect();
        let builder = Builder::new(Version::V2, (PIECE * BLOCK) as u64).expect("a good piece length");
        let mut hasher = builder.file_hasher(1);
        hasher.update(&bytes);
        let files = vec![(RelPath::parse("data").expect("a good path"), hasher.finish())];
        let metainfo = builder.build(files).expect("a good torrent");
        let blocks = size.div_ceil(BLOCK);
        let mut leaves: Vec<Hash> = bytes.chunks(BLOCK).map(|block| Sha256::digest(block).into()).collect();
        leaves.resize(blocks.next_power_of_two(), [0; 32]);
        let mut layers = vec![leaves];
        while layers[layers.len() - 1].len() > 1 {
            let pairs =
                layers[layers.len() - 1].chunks(2).map(|pair| Sha256::digest(pair.as_flattened()).into());
            let above = pairs.collect();
            layers.push(above);
        }
        let root = metainfo.files()[0].pieces_root.expect("it has bytes");
        assert_eq!(layers[layers.len() - 1], [root]);
        Self { root, trees: Trees::new(Arc::new(metainfo)), layers, blocks }
    }

    fn check(&self, request: HashRequest) {
        if !request.is_sane() {
            return;
        }
        let hashes = match self.trees.answer(&request) {
            Answer::Hashes(hashes) => hashes,
            Answer::OfPiece(piece) => {
                let first = piece as usize * PIECE;
                let leaves = &self.layers[0][first..(first + PIECE).min(self.blocks)];
                self.trees.answer_from(&request, leaves)
            }
            Answer::Reject => return,
        };
        assert_eq!(hashes, self.expected(&request), "{request:?}");
    }

    /// The hashes, and of the uncles those that the hashes themselves do not tell.
    fn expected(&self, request: &HashRequest) -> Vec<Hash> {
        let (first, count) = (request.index as usize, request.length as usize);
        let mut hashes = self.layers[request.base as usize][first..first + count].to_vec();
        for up in request.length.ilog2()..=request.proofs {
            hashes.push(self.layers[(request.base + up) as usize][first >> up ^ 1]);
        }
        hashes
    }
}
