//! The pure half: what this node should have, and the next steps towards it.

mod entries;
mod plan;

pub use entries::{JobStatus, Problem, entries};
pub use plan::{
    Action, ClassView, Data, Desired, Job, Local, NodeView, ORPHAN_GRACE, Observed, UNSELECTED_GRACE,
    is_unselected, plan,
};
