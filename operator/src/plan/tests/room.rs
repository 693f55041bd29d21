//! More revisions than a node can tell of.

use super::*;

#[test]
fn what_no_node_can_tell_of_says_why() {
    let mut observed = seen(2);
    settle(&mut observed);
    let name = build(&mut observed);
    is(&observed, "Progressing", "True", "Distributing");
    observed.crowded_out.insert(name.clone());
    settle(&mut observed);
    is(&observed, "Stalled", "True", "TooManyRevisions");
    is(&observed, "Ready", "False", "TooManyRevisions");
    for view in &mut observed.nodes {
        reports(view, &name, NodePhase::Ready, None);
    }
    settle(&mut observed);
    is(&observed, "Ready", "True", "AllNodesReady");
    is(&observed, "Stalled", "False", "NotStalled");
}
