//! The pure half: what this node should have, and the next steps towards it.

mod entries;
mod plan;
mod select;

pub use entries::{JobStatus, Problem, entries};
pub use plan::{
    Action, ClassView, Data, Desired, Job, Local, ORPHAN_GRACE, Observed, UNSELECTED_GRACE, is_unselected,
    plan,
};
pub use select::{NodeView, Selection, TaintView, select};
