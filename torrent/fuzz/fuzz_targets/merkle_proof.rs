//! A genuine proof leads to the root, one that was tampered with does not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::merkle::{self, Hash, TreeHasher};

const MOST_LEAVES: usize = 300;

fuzz_target!(|input: &[u8]| {
    let Some((&[count, more, index, layer, kind, at, bit], salt)) = input.split_first_chunk::<7>() else {
        return;
    };
    let count = 1 + usize::from(u16::from_le_bytes([count, more])) % MOST_LEAVES;
    // The number makes every leaf another one, as the blocks of real files need not be.
    let leaves: Vec<Hash> = (0..count)
        .map(|i| merkle::leaf(&[&i.to_le_bytes()[..], &salt[..salt.len().min(64)]].concat()))
        .collect();
    let root = reference_root(&leaves);
    assert_eq!(merkle::root(&leaves, 0), root);
    let layer = u32::from(layer) % (count.ilog2() + 1);
    let nodes = check_layer(&leaves, layer, root);

    let index = usize::from(index) % nodes.len();
    let siblings = merkle::proof(&nodes, layer, index);
    assert_eq!(1 << siblings.len(), nodes.len().next_power_of_two());
    assert_eq!(merkle::root_from_proof(&nodes[index], index, &siblings), root);
    let (node, index, siblings) = tampered(nodes[index], index, siblings, kind, usize::from(at), bit);
    assert_ne!(merkle::root_from_proof(&node, index, &siblings), root, "tampering {}", kind % KINDS);
});

/// The root as BEP 52 words it: leaves padded with zeros to a power of two, then pair by pair.
fn reference_root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    level.resize(leaves.len().next_power_of_two(), [0; 32]);
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| merkle::parent(&pair[0], &pair[1])).collect();
    }
    level[0]
}

/// The nodes of a layer; the one that is streamed is the same.
fn check_layer(leaves: &[Hash], layer: u32, root: Hash) -> Vec<Hash> {
    let nodes = merkle::climb(leaves, 0, layer);
    let mut hasher = TreeHasher::new(layer);
    leaves.iter().for_each(|leaf| hasher.push(*leaf));
    let (streamed, kept) = hasher.finish().expect("there are leaves");
    assert_eq!(streamed, root);
    // A file of one piece has no layer.
    if leaves.len() > 1 << layer {
        assert_eq!(kept, nodes);
        assert_eq!(merkle::root(&nodes, layer), root);
    } else {
        assert!(kept.is_empty());
    }
    nodes
}

/// Ways of [`tampered`].
const KINDS: u8 = 6;

/// The proof with one thing changed.
fn tampered(
    mut node: Hash,
    mut index: usize,
    mut siblings: Vec<Hash>,
    kind: u8,
    at: usize,
    bit: u8,
) -> (Hash, usize, Vec<Hash>) {
    let flip = |hash: &mut Hash| hash[at % 32] ^= 1 << (bit % 8);
    let height = siblings.len();
    match kind % KINDS {
        1 if height > 0 => flip(&mut siblings[usize::from(bit) % height]),
        // Bits above the height are no part of a place in this tree.
        2 if height > 0 => index ^= 1 << (at % height),
        3 if height > 0 => drop(siblings.remove(at % height)),
        4 => siblings.insert(at % (height + 1), node),
        5 if height > 1 && siblings[0] != siblings[1] => siblings.swap(0, 1),
        _ => flip(&mut node),
    }
    (node, index, siblings)
}
