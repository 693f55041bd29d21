//! Which nodes a placement is for, by the rules of pods. The operator counts by it and each sidecar acts by it: one rule for both.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;

use crate::Toleration;

/// Taints that Kubernetes itself puts on nodes in trouble: they never decide about data.
const OWN_TAINTS: &[&str] = &["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty if it has none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl From<v1::Taint> for Taint {
    fn from(taint: v1::Taint) -> Self {
        Self { key: taint.key, value: taint.value.unwrap_or_default(), effect: taint.effect }
    }
}

/// What a node's labels and taints say to a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The content belongs there.
    Selected,
    /// A `NoSchedule` taint keeps new content out; what is there stays, as pods do.
    Kept,
    /// It does not belong there: labels differ, or a `NoExecute` taint drives it out.
    Out,
}

/// Compares a node with the labels that it must have and the taints that do not keep it out.
pub fn select(
    (labels, taints): (&BTreeMap<String, String>, &[Taint]),
    selector: &BTreeMap<String, String>,
    tolerations: &[Toleration],
) -> Selection {
    if selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        return Selection::Out;
    }
    let decisive = |taint: &&Taint| {
        !OWN_TAINTS.iter().any(|prefix| taint.key.starts_with(prefix))
            && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    let mut selection = Selection::Selected;
    for taint in taints.iter().filter(decisive) {
        match taint.effect.as_str() {
            "NoExecute" => return Selection::Out,
            "NoSchedule" => selection = Selection::Kept,
            _ => {}
        }
    }
    selection
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

    type Node = (BTreeMap<String, String>, Vec<Taint>);

    fn node(labels: &[(&str, &str)], taints: &[(&str, &str, &str)]) -> Node {
        let taint = |(key, value, effect): &(&str, &str, &str)| Taint {
            key: (*key).into(),
            value: (*value).into(),
            effect: (*effect).into(),
        };
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        (labels, taints.iter().map(taint).collect())
    }

    fn select(node: &Node, selector: &BTreeMap<String, String>, tolerations: &[Toleration]) -> Selection {
        super::select((&node.0, &node.1), selector, tolerations)
    }

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Toleration { key: some(key), operator: some(operator), value: some(value), effect: some(effect) }
    }

    #[test]
    fn labels_must_all_match() {
        let node = node(&[("pool", "gpu"), ("zone", "a")], &[]);
        let wants = |pairs: &[(&str, &str)]| {
            select(&node, &pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(), &[])
        };
        assert_eq!(wants(&[]), Selection::Selected);
        assert_eq!(wants(&[("pool", "gpu")]), Selection::Selected);
        assert_eq!(wants(&[("pool", "gpu"), ("zone", "b")]), Selection::Out);
        assert_eq!(wants(&[("disk", "")]), Selection::Out);
    }

    #[test]
    fn taints_keep_out_unless_tolerated() {
        let none = BTreeMap::new();
        let tainted = node(&[], &[("dedicated", "ml", "NoSchedule")]);
        let with = |t: Toleration| select(&tainted, &none, &[t]);
        assert_eq!(select(&tainted, &none, &[]), Selection::Kept);
        assert_eq!(with(toleration("dedicated", "", "ml", "")), Selection::Selected);
        assert_eq!(with(toleration("dedicated", "Equal", "ml", "NoSchedule")), Selection::Selected);
        assert_eq!(with(toleration("dedicated", "Equal", "web", "")), Selection::Kept);
        assert_eq!(with(toleration("dedicated", "Exists", "", "NoExecute")), Selection::Kept);
        assert_eq!(with(toleration("", "Exists", "", "")), Selection::Selected);
        assert_eq!(with(toleration("", "", "", "")), Selection::Kept);
        assert_eq!(select(&node(&[], &[("k", "", "NoExecute")]), &none, &[]), Selection::Out);
        assert_eq!(select(&node(&[], &[("k", "", "PreferNoSchedule")]), &none, &[]), Selection::Selected);
    }

    #[test]
    fn taints_of_kubernetes_itself_never_decide() {
        let cordoned = node(
            &[],
            &[
                ("node.kubernetes.io/unschedulable", "", "NoSchedule"),
                ("node.kubernetes.io/not-ready", "", "NoExecute"),
            ],
        );
        assert_eq!(select(&cordoned, &BTreeMap::new(), &[]), Selection::Selected);
    }
}
