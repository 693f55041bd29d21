//! Whether this node is one of those that a revision is for.

use std::collections::BTreeMap;

use crds::Toleration;

/// Taints that Kubernetes itself puts on nodes in trouble: they never decide about data.
const OWN_TAINTS: &[&str] = &["node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"];

/// What of a Node decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its UID, for owner references.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints that may keep content out.
    pub taints: Vec<TaintView>,
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintView {
    /// Its key.
    pub key: String,
    /// Its value; empty if it has none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: String,
}

/// What the node's labels and taints say to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// It belongs here.
    Selected,
    /// A `NoSchedule` taint keeps new content out; what is here stays, as pods do.
    Kept,
    /// It does not belong here: labels differ, or a `NoExecute` taint drives it out.
    Out,
}

/// Compares a node with a revision's policy, by the rules of pods.
pub fn select(node: &NodeView, selector: &BTreeMap<String, String>, tolerations: &[Toleration]) -> Selection {
    if selector.iter().any(|(key, value)| node.labels.get(key) != Some(value)) {
        return Selection::Out;
    }
    let mut selection = Selection::Selected;
    for taint in &node.taints {
        if OWN_TAINTS.iter().any(|prefix| taint.key.starts_with(prefix))
            || tolerations.iter().any(|toleration| tolerates(toleration, taint))
        {
            continue;
        }
        match taint.effect.as_str() {
            "NoExecute" => return Selection::Out,
            "NoSchedule" => selection = Selection::Kept,
            _ => {}
        }
    }
    selection
}

fn tolerates(toleration: &Toleration, taint: &TaintView) -> bool {
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

    fn node(labels: &[(&str, &str)], taints: &[(&str, &str, &str)]) -> NodeView {
        NodeView {
            uid: "u".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            taints: taints
                .iter()
                .map(|(key, value, effect)| TaintView {
                    key: (*key).into(),
                    value: (*value).into(),
                    effect: (*effect).into(),
                })
                .collect(),
        }
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
