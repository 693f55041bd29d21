//! Label and field selectors.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::ApiError;

/// The fields that a field selector may name; a real server has as short a list for each kind.
const SELECTABLE: &[&str] =
    &["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "type", "involvedObject.uid"];

/// What a list or watch is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug)]
enum LabelTerm {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug)]
struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// From the query parameters `labelSelector` and `fieldSelector`.
    pub(crate) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, ApiError> {
        let labels = split_terms(labels.unwrap_or_default()).map(parse_label).collect::<Result<_, _>>()?;
        let fields = split_terms(fields.unwrap_or_default()).map(parse_field).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| term.matches(labels))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        let label = |key: &str| labels[key].as_str();
        match self {
            Self::In(key, values) => label(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => !label(key).is_some_and(|v| values.contains(v)),
            Self::Exists(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let value = self.path.split('.').fold(object, |at, part| &at[part]);
        (value.as_str().unwrap_or_default() == self.value) == self.equal
    }
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0u32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|term| !term.is_empty())
}

fn parse_label(term: &str) -> Result<LabelTerm, ApiError> {
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(LabelTerm::NotIn(key.trim().to_owned(), one(value)));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(LabelTerm::In(key.trim().to_owned(), one(value)));
    }
    if let Some((head, values)) = term.split_once('(') {
        let values = values.trim_end_matches(')').split(',').map(|v| v.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => Ok(LabelTerm::In(key.to_owned(), values)),
            [key, "notin"] => Ok(LabelTerm::NotIn(key.to_owned(), values)),
            _ => Err(ApiError::bad_request(format!("unable to parse label selector: {term:?}"))),
        };
    }
    match term.strip_prefix('!') {
        Some(key) => Ok(LabelTerm::Absent(key.trim().to_owned())),
        None if term.contains(char::is_whitespace) => {
            Err(ApiError::bad_request(format!("unable to parse label selector: {term:?}")))
        }
        None => Ok(LabelTerm::Exists(term.to_owned())),
    }
}

fn parse_field(term: &str) -> Result<FieldTerm, ApiError> {
    let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (path, value, true)
    } else {
        return Err(ApiError::bad_request(format!("invalid field selector: {term:?}")));
    };
    if !SELECTABLE.contains(&path) {
        return Err(ApiError::bad_request(format!("field label not supported: {path}")));
    }
    Ok(FieldTerm { path: path.to_owned(), value: value.to_owned(), equal })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(selector: &str) -> bool {
        let object = json!({"metadata": {"name": "n", "labels": {"a": "1", "b/c": "x"}}});
        Selector::parse(Some(selector), None).unwrap().matches(&object)
    }

    #[test]
    fn label_terms() {
        for yes in ["a=1", "a==1", "a!=2", "z!=2", "a in (0, 1)", "a notin (2),b/c", "!z", "", "a,b/c=x"] {
            assert!(labels(yes), "{yes}");
        }
        for no in ["a=2", "a!=1", "a in (2,3)", "a notin (1)", "z", "!a", "a=1,b/c=y"] {
            assert!(!labels(no), "{no}");
        }
        assert!(Selector::parse(Some("a of (b)"), None).is_err());
    }

    #[test]
    fn field_terms() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}});
        let matches = |s: &str| Selector::parse(None, Some(s)).unwrap().matches(&pod);
        assert!(matches("spec.nodeName=n1,metadata.name=p"));
        assert!(matches("spec.nodeName!=n2"));
        assert!(!matches("spec.nodeName=n2"));
        assert!(Selector::parse(None, Some("spec.secret=x")).is_err());
    }
}
