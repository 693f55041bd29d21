//! The SHA-256 trees of BEP 52.
//!
//! Leaves are the hashes of blocks of 16 KiB, the last one as short as it is. *Layer* `h` holds the nodes that stand for
//! `2^h` blocks. Where blocks are missing to the next power of two, leaves are 32 zero bytes (not the hash of zeros), and
//! [`pad`] is the node above `2^h` of those.

mod assembler;
mod hasher;

use std::sync::OnceLock;

pub use assembler::{Assembler, NodeError};
pub use hasher::TreeHasher;
use sha2::{Digest, Sha256};

/// A node or a leaf.
pub type Hash = [u8; 32];

/// Bytes of a block, which a leaf stands for.
pub const BLOCK: u64 = 16 * 1024;

/// The layer whose nodes stand for 1 MiB: spans are what own peers verify, announce and pass on.
pub const SPAN_LAYER: u32 = 6;

/// Layers that a tree can have: `2^63` blocks are more than any file.
const MAX_LAYERS: usize = 64;

/// The leaf of one block.
pub fn leaf(block: &[u8]) -> Hash {
    Sha256::digest(block).into()
}

/// The leaves of two blocks of the same length. SHA-256 is one chain of instructions that wait for each other; two chains in turn
/// fill each other's gaps (a tenth faster on processors with SHA instructions, never slower).
pub fn leaf_pair(blocks: [&[u8]; 2]) -> [Hash; 2] {
    const TURN: usize = 64;
    let (mut first, mut second) = (Sha256::new(), Sha256::new());
    for (a, b) in blocks[0].chunks(TURN).zip(blocks[1].chunks(TURN)) {
        first.update(a);
        second.update(b);
    }
    [first.finalize().into(), second.finalize().into()]
}

/// The node above two.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// The node at `layer` below which every leaf is missing.
///
/// # Panics
/// If `layer` is 64 or more.
pub fn pad(layer: u32) -> Hash {
    static PADS: OnceLock<[Hash; MAX_LAYERS]> = OnceLock::new();
    PADS.get_or_init(|| {
        let mut pads = [[0; 32]; MAX_LAYERS];
        for layer in 1..MAX_LAYERS {
            pads[layer] = parent(&pads[layer - 1], &pads[layer - 1]);
        }
        pads
    })[layer as usize]
}

/// Blocks of that many bytes.
pub fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}

/// The layer of the nodes that stand for one piece each.
pub fn piece_layer(piece_length: u64) -> u32 {
    (piece_length / BLOCK).max(1).ilog2()
}

/// The nodes one layer up from all nodes of a layer; an odd one at the end is paired with padding.
pub fn ascend(nodes: &[Hash], layer: u32) -> Vec<Hash> {
    nodes
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => parent(left, right),
            _ => parent(&pair[0], &pad(layer)),
        })
        .collect()
}

/// The nodes at layer `to` above all nodes of layer `from`.
pub fn climb(nodes: &[Hash], from: u32, to: u32) -> Vec<Hash> {
    (from..to).fold(nodes.to_vec(), |nodes, layer| ascend(&nodes, layer))
}

/// The root of a whole tree from all nodes of one layer. Without nodes: padding, the root of nothing.
pub fn root(nodes: &[Hash], layer: u32) -> Hash {
    let height = nodes.len().max(1).next_power_of_two().ilog2();
    subtree_root(nodes, layer, height)
}

/// The root of a subtree `height` layers above nodes of one layer, missing ones on the right padded.
pub fn subtree_root(nodes: &[Hash], layer: u32, height: u32) -> Hash {
    climb(nodes, layer, layer + height).first().copied().unwrap_or_else(|| pad(layer + height))
}

/// The siblings on the way from node `index` of a layer to the root, lowest first.
pub fn proof(nodes: &[Hash], layer: u32, index: usize) -> Vec<Hash> {
    let height = nodes.len().max(1).next_power_of_two().ilog2();
    let mut level = nodes.to_vec();
    let mut siblings = Vec::with_capacity(height as usize);
    for step in 0..height {
        siblings.push(level.get((index >> step) ^ 1).copied().unwrap_or_else(|| pad(layer + step)));
        level = ascend(&level, layer + step);
    }
    siblings
}

/// The root to which a proof leads: equal to the known one if node and siblings are genuine.
pub fn root_from_proof(node: &Hash, index: usize, siblings: &[Hash]) -> Hash {
    siblings.iter().enumerate().fold(*node, |node, (step, sibling)| {
        let on_the_right = index.checked_shr(step as u32).unwrap_or(0) & 1 == 1;
        if on_the_right { parent(sibling, &node) } else { parent(&node, sibling) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|i| leaf(&i.to_le_bytes())).collect()
    }

    #[test]
    fn streaming_agrees_with_whole_layers() {
        for count in (1..70).chain([127, 128, 129, 1000]) {
            let all = leaves(count);
            for kept in 0..8 {
                let mut hasher = TreeHasher::new(kept);
                for leaf in &all {
                    hasher.push(*leaf);
                }
                let (found, layer) = hasher.finish().unwrap();
                assert_eq!(found, root(&all, 0), "{count} leaves, layer {kept}");
                if count > 1 << kept {
                    assert_eq!(layer, climb(&all, 0, kept), "{count} leaves, layer {kept}");
                } else {
                    assert_eq!(layer, Vec::<Hash>::new());
                }
            }
        }
    }

    #[test]
    fn one_block_is_its_own_root() {
        assert_eq!(root(&leaves(1), 0), leaves(1)[0]);
        assert_eq!(TreeHasher::new(6).finish(), None);
    }

    #[test]
    fn proofs_lead_to_the_root_and_to_nothing_else() {
        for count in 1..40 {
            let all = leaves(count);
            let expected = root(&all, 0);
            for index in 0..count {
                let siblings = proof(&all, 0, index);
                assert_eq!(root_from_proof(&all[index], index, &siblings), expected);
                if count > 1 {
                    assert_ne!(root_from_proof(&all[index], index ^ 1, &siblings), expected);
                }
                assert_ne!(root_from_proof(&leaf(b"forged"), index, &siblings), expected);
            }
        }
    }

    #[test]
    fn padding_is_not_the_hash_of_zeros() {
        assert_eq!(pad(0), [0; 32]);
        assert_ne!(pad(0), leaf(&[0; 16 * 1024]));
        assert_eq!(pad(2), parent(&parent(&pad(0), &pad(0)), &parent(&pad(0), &pad(0))));
    }
}
