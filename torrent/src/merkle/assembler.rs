//! Trees from nodes that come in any order, of any layer: a file of which peers send parts.

use std::collections::HashMap;

use super::{Hash, pad, parent};

/// A node that does not fit where it is said to belong. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The tree has no such node, or none that stands for a block.
    #[error("a tree of {blocks} blocks has no node {index} at layer {layer}")]
    OutOfRange {
        /// Layer that was named.
        layer: u32,
        /// Index in the layer that was named.
        index: u64,
        /// Blocks of the tree.
        blocks: u64,
    },
    /// The node, or one above it, is there already.
    #[error("node {index} at layer {layer} is known already")]
    Known {
        /// Layer that was named.
        layer: u32,
        /// Index in the layer that was named.
        index: u64,
    },
}

/// Assembles the tree of a file of known length from leaves and nodes in any order, and keeps one layer of it.
///
/// It holds a node for each part of the tree that has come and waits for its neighbour: fewer than there are leaves, and one for
/// each layer at most if they come in order. It believes what it is given: the root that comes out is compared with the known one.
///
/// ```
/// use torrent::merkle::{Assembler, leaf, parent, root};
///
/// let leaves = [leaf(b"a"), leaf(b"b"), leaf(b"c")];
/// let mut tree = Assembler::new(3, 1);
/// tree.insert(0, 2, leaves[2])?;
/// assert_eq!(tree.root(), None);
/// tree.insert(1, 0, parent(&leaves[0], &leaves[1]))?;
/// assert_eq!(tree.root(), Some(root(&leaves, 0)));
/// # Ok::<(), torrent::merkle::NodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Assembler {
    blocks: u64,
    height: u32,
    kept_layer: u32,
    /// Nodes whose parent is not known, by layer and index.
    waiting: HashMap<(u32, u64), Hash>,
    kept: Vec<Option<Hash>>,
}

impl Assembler {
    /// Of a file of that many blocks of 16 KiB, at least one. Keeps the nodes of `kept_layer`, for example
    /// [`super::piece_layer`] of the piece length; they take 33 bytes each from the start.
    pub fn new(blocks: u64, kept_layer: u32) -> Self {
        let blocks = blocks.clamp(1, 1 << (u64::BITS - 2));
        let height = blocks.next_power_of_two().ilog2();
        let kept = if kept_layer < height { blocks.div_ceil(1 << kept_layer) as usize } else { 0 };
        Self { blocks, height, kept_layer, waiting: HashMap::new(), kept: vec![None; kept] }
    }

    /// Takes the node at `layer` that stands for the blocks from `index * 2^layer` on. Nodes below it need not come; with a
    /// node above the kept layer that layer stays incomplete.
    pub fn insert(&mut self, layer: u32, index: u64, node: Hash) -> Result<(), NodeError> {
        if layer > self.height || index >= self.nodes(layer) {
            return Err(NodeError::OutOfRange { layer, index, blocks: self.blocks });
        }
        if (layer..=self.height).any(|above| self.waiting.contains_key(&(above, index >> (above - layer)))) {
            return Err(NodeError::Known { layer, index });
        }
        self.climb(layer, index, node);
        Ok(())
    }

    /// The root, once all parts have come.
    pub fn root(&self) -> Option<Hash> {
        self.waiting.get(&(self.height, 0)).copied()
    }

    /// The root and the kept layer, as [`super::TreeHasher::finish`] gives them: a tree that does not reach over one node of
    /// that layer has none. `None` if a part is missing, or came as a node above that layer.
    pub fn finish(self) -> Option<(Hash, Vec<Hash>)> {
        Some((self.root()?, self.kept.into_iter().collect::<Option<_>>()?))
    }

    /// Nodes of a layer that stand for blocks.
    fn nodes(&self, layer: u32) -> u64 {
        self.blocks.div_ceil(1 << layer)
    }

    /// Joins a node with its neighbour, and what comes out with its own, as far as there is one.
    fn climb(&mut self, mut layer: u32, mut index: u64, mut node: Hash) {
        loop {
            if let Some(kept) = self.kept.get_mut(index as usize).filter(|_| layer == self.kept_layer) {
                *kept = Some(node);
            }
            let neighbour = index ^ 1;
            let found = match self.waiting.remove(&(layer, neighbour)) {
                found if layer < self.height => {
                    found.or_else(|| (neighbour >= self.nodes(layer)).then(|| pad(layer)))
                }
                _ => None,
            };
            let Some(other) = found else { break };
            node = if index & 1 == 0 { parent(&node, &other) } else { parent(&other, &node) };
            (layer, index) = (layer + 1, index / 2);
        }
        self.waiting.insert((layer, index), node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{TreeHasher, climb, leaf};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf(&i.to_le_bytes())).collect()
    }

    /// Another order in each run of `salt`, and every index once.
    fn shuffled(count: u64, salt: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        order.sort_by_key(|index| leaf(&(index ^ (salt << 32)).to_le_bytes()));
        order
    }

    #[test]
    fn any_order_gives_what_the_right_order_gives() {
        for count in (1..40).chain([63, 64, 65, 127, 300]) {
            for kept in 0..8 {
                let (mut ordered, mut any) = (TreeHasher::new(kept), Assembler::new(count, kept));
                for leaf in leaves(count) {
                    ordered.push(leaf);
                }
                for index in shuffled(count, u64::from(kept)) {
                    assert_eq!(any.root(), None);
                    any.insert(0, index, leaves(count)[index as usize]).unwrap();
                }
                assert_eq!(any.finish(), ordered.finish(), "{count} leaves, layer {kept}");
            }
        }
    }

    #[test]
    fn nodes_of_any_layer_stand_for_what_lies_below() {
        let all = leaves(23);
        let (second, fourth) = (climb(&all, 0, 2), climb(&all, 0, 4));
        let mut tree = Assembler::new(23, 2);
        tree.insert(4, 1, fourth[1]).unwrap();
        for index in [3, 0, 2] {
            tree.insert(2, index, second[index as usize]).unwrap();
        }
        for index in shuffled(4, 1) {
            tree.insert(0, 4 + index, all[4 + index as usize]).unwrap();
        }
        assert_eq!(tree.root(), Some(crate::merkle::root(&all, 0)));
        assert_eq!(tree.finish(), None, "two nodes of the kept layer came as one above it");
    }

    #[test]
    fn a_node_is_taken_once_and_only_where_the_tree_has_one() {
        let all = leaves(5);
        let mut tree = Assembler::new(5, 1);
        for (layer, index) in [(0, 5), (0, u64::MAX), (1, 3), (3, 1), (4, 0), (u32::MAX, 0)] {
            let refused = tree.insert(layer, index, all[0]);
            assert_eq!(refused, Err(NodeError::OutOfRange { layer, index, blocks: 5 }));
        }
        tree.insert(0, 0, all[0]).unwrap();
        assert_eq!(tree.insert(0, 0, all[1]), Err(NodeError::Known { layer: 0, index: 0 }));
        tree.insert(0, 1, all[1]).unwrap();
        assert_eq!(tree.insert(0, 0, all[0]), Err(NodeError::Known { layer: 0, index: 0 }));
        assert_eq!(tree.insert(1, 0, all[0]), Err(NodeError::Known { layer: 1, index: 0 }));
        assert_eq!((tree.root(), tree.finish()), (None, None));
    }

    #[test]
    fn what_waits_is_little() {
        let mut tree = Assembler::new(1 << 12, 6);
        for (index, leaf) in leaves(1 << 12).into_iter().enumerate() {
            tree.insert(0, index as u64, leaf).unwrap();
            assert!(tree.waiting.len() <= 13);
        }
        assert_eq!(tree.waiting.len(), 1);
    }
}
