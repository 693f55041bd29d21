//! Server-side apply, near enough for one or a few managers of an object.
//!
//! The store keeps what each manager applied last, as `kubectl apply` does on the client. Then:
//! * a field that the manager applied before and does not apply now is removed, unless another manager applies it too;
//! * a field with another value than the one that another manager applied is a conflict, or with `force` taken from it;
//! * all else is merged. Lists that Kubernetes merges by key (conditions, ports, containers...) are merged by key,
//!   `finalizers` is a set, any other list is replaced.
//!
//! What a real server does besides: fields written by plain updates have owners there too, so that they can conflict; and the
//! owners stand in `metadata.managedFields`, which does not exist here.

use serde_json::{Map, Value};

/// One step down: a member's name, or the key of a list's item.
type Path = Vec<String>;

/// Fields that another manager applied with another value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) manager: usize,
    pub(crate) path: Path,
}

/// The fields in which `new` differs from what the `others` applied and the object still has.
pub(crate) fn conflicts(live: &Value, new: &Value, others: &[&Value]) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (manager, other) in others.iter().enumerate() {
        let mut paths = Vec::new();
        differing(&mut Vec::new(), live, new, other, &mut paths);
        found.extend(paths.into_iter().map(|path| Conflict { manager, path }));
    }
    found
}

fn differing(at: &mut Path, live: &Value, new: &Value, other: &Value, found: &mut Vec<Path>) {
    match (members(at, new), members(at, other)) {
        (Some(new), Some(other)) => {
            let live = members(at, live).unwrap_or_default();
            for (key, value) in &new {
                if let Some(theirs) = other.iter().find(|(k, _)| k == key) {
                    let now = live.iter().find(|(k, _)| k == key).map_or(&Value::Null, |(_, v)| *v);
                    at.push(key.clone());
                    differing(at, now, value, theirs.1, found);
                    at.pop();
                }
            }
        }
        _ if new != other && new != live => found.push(at.clone()),
        _ => {}
    }
}

/// Takes the field at `path` out of what another manager applied: it is no longer that manager's.
pub(crate) fn surrender(applied: &mut Value, path: &[String]) {
    let mut at = applied;
    let mut name = String::new();
    for (depth, step) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        let next = match at {
            Value::Object(map) => {
                if last {
                    map.remove(step);
                    return;
                }
                map.get_mut(step)
            }
            Value::Array(items) => {
                let position = items.iter().position(|i| item_key(&name, i).as_ref() == Some(step));
                if last {
                    position.map(|p| items.remove(p));
                    return;
                }
                position.map(|p| &mut items[p])
            }
            _ => None,
        };
        let Some(next) = next else { return };
        name.clone_from(step);
        at = next;
    }
}

/// Merges `new` into the live object and removes what the manager had applied `before` and no one applies now.
pub(crate) fn apply(live: &mut Value, before: Option<&Value>, new: &Value, others: &[&Value]) {
    if let Some(before) = before {
        drop_fields("", live, before, Some(new), others);
    }
    merge("", live, new);
}

fn drop_fields(name: &str, live: &mut Value, before: &Value, new: Option<&Value>, others: &[&Value]) {
    match (live, before) {
        (Value::Object(live), Value::Object(before)) => {
            for (key, old) in before {
                let now = new.and_then(|n| n.get(key));
                let theirs: Vec<&Value> = others.iter().filter_map(|o| o.get(key)).collect();
                let Some(field) = live.get_mut(key) else { continue };
                let gone = drop_one(key, field, old, now, &theirs);
                if gone {
                    live.remove(key);
                }
            }
        }
        (Value::Array(live), Value::Array(before)) => {
            for old in before {
                let Some(key) = item_key(name, old) else { return };
                let find = |list: &Value| item_with_key(name, list, &key).cloned();
                let now = new.and_then(find);
                let theirs: Vec<Value> = others.iter().filter_map(|o| find(o)).collect();
                let theirs: Vec<&Value> = theirs.iter().collect();
                let Some(at) = live.iter().position(|i| item_key(name, i).as_ref() == Some(&key)) else {
                    continue;
                };
                if now.is_none() && theirs.is_empty() {
                    live.remove(at);
                } else {
                    drop_fields("", &mut live[at], old, now.as_ref(), &theirs);
                }
            }
        }
        _ => {}
    }
}

/// Whether the field itself has to go; otherwise its members were dealt with.
fn drop_one(name: &str, field: &mut Value, old: &Value, now: Option<&Value>, theirs: &[&Value]) -> bool {
    let orphaned = now.is_none() && theirs.is_empty();
    let granular = match old {
        Value::Object(_) => field.is_object(),
        Value::Array(_) => field.is_array() && is_keyed(name),
        _ => false,
    };
    if granular {
        drop_fields(name, field, old, now, theirs);
    }
    let empty = field.as_object().is_some_and(Map::is_empty) || field.as_array().is_some_and(Vec::is_empty);
    orphaned && (!granular || empty)
}

fn merge(name: &str, live: &mut Value, new: &Value) {
    match (live, new) {
        (Value::Object(live), Value::Object(new)) => {
            for (key, value) in new {
                merge(key, live.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(new)) if is_keyed(name) => {
            for item in new {
                let key = item_key(name, item);
                match live.iter_mut().find(|i| item_key(name, i) == key) {
                    Some(mine) => merge("", mine, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (live, new) => *live = new.clone(),
    }
}

/// The members of a map, or of a list that is merged by key; none of anything that is one value.
fn members<'a>(path: &[String], value: &'a Value) -> Option<Vec<(String, &'a Value)>> {
    let name = path.last().map_or("", String::as_str);
    match value {
        Value::Object(map) => Some(map.iter().map(|(k, v)| (k.clone(), v)).collect()),
        Value::Array(items) if is_keyed(name) => {
            Some(items.iter().filter_map(|i| Some((item_key(name, i)?, i))).collect())
        }
        _ => None,
    }
}

fn item_with_key<'a>(name: &str, list: &'a Value, key: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item_key(name, item).as_deref() == Some(key))
}

/// Whether Kubernetes merges lists of this name by key, or as a set.
fn is_keyed(list: &str) -> bool {
    list == "ports" || list == "finalizers" || key_field(list).is_some()
}

/// `x-kubernetes-list-map-keys`, where it is one field.
fn key_field(list: &str) -> Option<&'static str> {
    match list {
        "conditions" | "addresses" => Some("type"),
        "ownerReferences" => Some("uid"),
        "containers" | "initContainers" | "env" | "volumes" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        _ => None,
    }
}

fn item_key(list: &str, item: &Value) -> Option<String> {
    match list {
        "finalizers" => item.as_str().map(str::to_owned),
        "ports" => {
            let port = item.get("containerPort").or_else(|| item.get("port"))?;
            Some(format!("{port}/{}", item["protocol"].as_str().unwrap_or("TCP")))
        }
        _ => item.get(key_field(list)?)?.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(mut live: Value, before: &Value, new: &Value, others: &[&Value]) -> Value {
        apply(&mut live, Some(before), new, others);
        live
    }

    #[test]
    fn a_field_no_longer_applied_goes() {
        let out = applied(
            json!({"spec": {"a": 1, "b": 2, "set": "by another"}}),
            &json!({"spec": {"a": 1, "b": 2}}),
            &json!({"spec": {"a": 3}}),
            &[],
        );
        assert_eq!(out, json!({"spec": {"a": 3, "set": "by another"}}));
    }

    #[test]
    fn a_whole_map_no_longer_applied_goes_but_not_the_members_of_others() {
        let before = json!({"spec": {"m": {"x": 1}}});
        let out = applied(json!({"spec": {"m": {"x": 1}}}), &before, &json!({"spec": {}}), &[]);
        assert_eq!(out, json!({"spec": {}}));
        let out = applied(json!({"spec": {"m": {"x": 1, "y": 2}}}), &before, &json!({"spec": {}}), &[]);
        assert_eq!(out, json!({"spec": {"m": {"y": 2}}}));
        let theirs = json!({"spec": {"m": {"x": 1}}});
        let out = applied(json!({"spec": {"m": {"x": 1}}}), &before, &json!({"spec": {}}), &[&theirs]);
        assert_eq!(out, json!({"spec": {"m": {"x": 1}}}));
    }

    #[test]
    fn conditions_are_merged_by_type() {
        let out = applied(
            json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}, {"type": "C"}]}),
            &json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}),
            &json!({"conditions": [{"type": "B", "status": "False"}]}),
            &[],
        );
        assert_eq!(out, json!({"conditions": [{"type": "B", "status": "False"}, {"type": "C"}]}));
    }

    #[test]
    fn other_lists_are_replaced_and_finalizers_are_a_set() {
        let mut live = json!({"args": [1, 2], "finalizers": ["theirs"]});
        apply(&mut live, None, &json!({"args": [3], "finalizers": ["mine"]}), &[]);
        assert_eq!(live, json!({"args": [3], "finalizers": ["theirs", "mine"]}));
        let before = json!({"finalizers": ["mine"]});
        apply(&mut live, Some(&before), &json!({}), &[]);
        assert_eq!(live, json!({"args": [3], "finalizers": ["theirs"]}));
    }

    #[test]
    fn conflicts_are_fields_of_another_with_another_value() {
        let live = json!({"spec": {"a": 1, "b": 2}});
        let mut theirs = json!({"spec": {"a": 1, "b": 2}});
        assert_eq!(conflicts(&live, &json!({"spec": {"a": 1, "c": 3}}), &[&theirs]), vec![]);
        let found = conflicts(&live, &json!({"spec": {"a": 9}}), &[&theirs]);
        assert_eq!(found, vec![Conflict { manager: 0, path: vec!["spec".into(), "a".into()] }]);
        surrender(&mut theirs, &found[0].path);
        assert_eq!(theirs, json!({"spec": {"b": 2}}));
    }
}
