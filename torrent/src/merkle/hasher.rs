//! Trees from leaves that come in order: a file that is read from front to back.

use super::{Hash, pad, parent};

/// Builds the tree of a file from its leaves in order, and keeps one layer of it.
#[derive(Debug, Clone)]
pub struct TreeHasher {
    kept_layer: u32,
    leaves: u64,
    /// Roots of the full subtrees on the left edge below the kept layer, highest first.
    edge: Vec<Hash>,
    layer: Vec<Hash>,
}

impl TreeHasher {
    /// Keeps the nodes of `kept_layer`, for example [`piece_layer`] of the piece length.
    pub fn new(kept_layer: u32) -> Self {
        Self { kept_layer, leaves: 0, edge: Vec::new(), layer: Vec::new() }
    }

    /// The next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut layer = 0;
        while layer < self.kept_layer && (self.leaves >> layer) & 1 == 1 {
            let left = self.edge.pop().expect("a set bit of the count is a subtree on the edge");
            node = parent(&left, &node);
            layer += 1;
        }
        self.leaves += 1;
        if layer == self.kept_layer { self.layer.push(node) } else { self.edge.push(node) }
    }

    /// The root and the kept layer. A tree that does not reach over one node of that layer has no layer (BEP 52: a file of
    /// one piece has no `piece layers` entry) and pads to the next power of two of its own leaves. `None` without leaves.
    pub fn finish(mut self) -> Option<(Hash, Vec<Hash>)> {
        if self.leaves == 0 {
            return None;
        }
        if self.leaves <= 1 << self.kept_layer {
            let height = self.leaves.next_power_of_two().ilog2();
            let root = self.fold_edge(height).or_else(|| self.layer.first().copied());
            return Some((root.expect("a tree with leaves has a root"), Vec::new()));
        }
        if let Some(last) = self.fold_edge(self.kept_layer) {
            self.layer.push(last);
        }
        Some((super::root(&self.layer, self.kept_layer), self.layer))
    }

    /// The node at `height` over what is on the edge, padded on the right; `None` if the edge is empty.
    fn fold_edge(&mut self, height: u32) -> Option<Hash> {
        let mut node = None;
        for layer in 0..height {
            let left = if (self.leaves >> layer) & 1 == 1 { self.edge.pop() } else { None };
            node = match (left, node) {
                (Some(left), Some(right)) => Some(parent(&left, &right)),
                (Some(left), None) | (None, Some(left)) => Some(parent(&left, &pad(layer))),
                (None, None) => None,
            };
        }
        node.or_else(|| self.edge.pop())
    }
}
