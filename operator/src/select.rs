//! Which nodes a `Distribution` is for, by the rules of pods. The sidecars decide by the same rules, each for its node.

use std::collections::BTreeMap;

use crds::{Placement, Toleration};

use crate::index::{NodeFacts, Taint};

/// Taints that Kubernetes itself puts on nodes in trouble: they never decide about data.
const OWN_TAINTS: &[&str] = &["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];

/// What a node's labels and taints say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// It is to have the content.
    Selected,
    /// A `NoSchedule` taint keeps new content out; what is there stays, as pods do.
    Kept,
    /// Labels differ, or a `NoExecute` taint drives it out.
    Out,
}

/// Compares a node with a placement.
pub fn select(node: &NodeFacts, placement: &Placement) -> Selection {
    if !labels_match(&node.labels, &placement.node_selector) {
        return Selection::Out;
    }
    let decisive = |taint: &&Taint| {
        !OWN_TAINTS.iter().any(|prefix| taint.key.starts_with(prefix))
            && !placement.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    let mut selection = Selection::Selected;
    for taint in node.taints.iter().filter(decisive) {
        match taint.effect.as_str() {
            "NoExecute" => return Selection::Out,
            "NoSchedule" => selection = Selection::Kept,
            _ => {}
        }
    }
    selection
}

fn labels_match(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    if key.is_empty() {
        return exists;
    }
    key == taint.key && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)], taints: &[(&str, &str, &str)]) -> NodeFacts {
        let taint = |(key, value, effect): &(&str, &str, &str)| Taint {
            key: (*key).into(),
            value: (*value).into(),
            effect: (*effect).into(),
        };
        NodeFacts {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            taints: taints.iter().map(taint).collect(),
            ..NodeFacts::default()
        }
    }

    fn tolerating(key: &str, operator: &str, value: &str, effect: &str) -> Placement {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let toleration =
            Toleration { key: some(key), operator: some(operator), value: some(value), effect: some(effect) };
        Placement { tolerations: vec![toleration], ..Placement::default() }
    }

    #[test]
    fn every_label_has_to_match() {
        let node = node(&[("pool", "gpu"), ("zone", "a")], &[]);
        let wants = |pairs: &[(&str, &str)]| {
            let node_selector = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            select(&node, &Placement { node_selector, ..Placement::default() })
        };
        assert_eq!(wants(&[]), Selection::Selected);
        assert_eq!(wants(&[("pool", "gpu")]), Selection::Selected);
        assert_eq!(wants(&[("pool", "gpu"), ("zone", "b")]), Selection::Out);
        assert_eq!(wants(&[("disk", "")]), Selection::Out);
    }

    #[test]
    fn taints_keep_out_unless_tolerated() {
        let tainted = node(&[], &[("dedicated", "ml", "NoSchedule")]);
        for (placement, expected) in [
            (Placement::default(), Selection::Kept),
            (tolerating("dedicated", "", "ml", ""), Selection::Selected),
            (tolerating("dedicated", "Equal", "ml", "NoSchedule"), Selection::Selected),
            (tolerating("dedicated", "Equal", "web", ""), Selection::Kept),
            (tolerating("dedicated", "Exists", "", "NoExecute"), Selection::Kept),
            (tolerating("", "Exists", "", ""), Selection::Selected),
            (tolerating("", "", "", ""), Selection::Kept),
        ] {
            assert_eq!(select(&tainted, &placement), expected, "{placement:?}");
        }
        let none = Placement::default();
        assert_eq!(select(&node(&[], &[("k", "", "NoExecute")]), &none), Selection::Out);
        assert_eq!(select(&node(&[], &[("k", "", "PreferNoSchedule")]), &none), Selection::Selected);
        let troubled = node(&[], &[("node.kubernetes.io/not-ready", "", "NoExecute")]);
        assert_eq!(select(&troubled, &none), Selection::Selected);
    }
}
