//! Why nodes failed, by reason: as much of it as has room in a status.

use std::collections::BTreeMap;

use crds::FailureGroup;

use crate::failure::{Failure, cut};

/// The most reasons.
const MAX_REASONS: usize = 10;
/// The most node names per reason.
const MAX_NAMES: usize = 5;
/// The longest message, in bytes; the worst reason's stands whole in the condition Stalled.
const LONGEST_MESSAGE: usize = 128;
/// The most bytes of JSON for all of them: half of what a status may have.
const MOST_BYTES: usize = 2500;

/// Groups by reason.
pub type Groups = BTreeMap<String, FailureGroup>;

/// Adds one node's failure.
pub fn note(groups: &mut Groups, failure: Failure, node: &str) {
    let group = groups.entry(failure.reason.clone()).or_insert_with(|| FailureGroup {
        reason: failure.reason,
        message: failure.message,
        ..FailureGroup::default()
    });
    group.count += 1;
    if group.nodes.len() < MAX_NAMES {
        group.nodes.push(node.to_owned());
    }
}

/// The most frequent first. Where node names are long, fewer of them are told, and then fewer reasons.
pub fn worst(groups: Groups) -> Vec<FailureGroup> {
    let mut worst: Vec<FailureGroup> = groups.into_values().collect();
    worst.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    worst.truncate(MAX_REASONS);
    for group in worst.iter_mut().skip(1) {
        group.message = cut(&group.message, LONGEST_MESSAGE);
    }
    for names in (1..MAX_NAMES).rev() {
        if bytes(&worst) <= MOST_BYTES {
            return worst;
        }
        for group in &mut worst {
            group.nodes.truncate(names);
        }
    }
    while bytes(&worst) > MOST_BYTES {
        worst.pop();
    }
    worst
}

fn bytes(groups: &[FailureGroup]) -> usize {
    serde_json::to_vec(groups).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_leave_room_for_fewer() {
        let mut groups = Groups::new();
        for node in 0..100 {
            let failure = Failure::new(&format!("Reason{}", node % 10), "x".repeat(256));
            note(&mut groups, failure, &format!("{node}-{}", "n".repeat(240)));
        }
        let worst = worst(groups);
        assert!(!worst.is_empty() && bytes(&worst) <= MOST_BYTES);
        assert_eq!((worst[0].count, worst[0].nodes.len(), worst[0].message.len()), (10, 1, 256));
    }
}
