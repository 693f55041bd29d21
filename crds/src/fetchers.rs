//! How many nodes read an origin.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// As many as [`crate::RevisionPolicy::fetchers`] holds.
const MOST: u8 = 8;

/// `Auto`, or a number from 1 to 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Fetchers {
    /// One, and more as long as one more makes the origin faster.
    #[default]
    Auto,
    /// So many, if so many nodes are there.
    Exactly(u8),
}

/// As it stands in YAML.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u8),
    Word(Word),
    /// The API server keeps a null that a user writes.
    Null(()),
}

#[derive(Serialize, Deserialize)]
enum Word {
    Auto,
}

impl TryFrom<Written> for Fetchers {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Word(Word::Auto) | Written::Null(()) => Ok(Self::Auto),
            Written::Number(number) if (1..=MOST).contains(&number) => Ok(Self::Exactly(number)),
            Written::Number(number) => {
                Err(format!("fetchers is Auto or a number from 1 to {MOST}, not {number}"))
            }
        }
    }
}

impl From<Fetchers> for Written {
    fn from(fetchers: Fetchers) -> Self {
        match fetchers {
            Fetchers::Auto => Self::Word(Word::Auto),
            Fetchers::Exactly(number) => Self::Number(number),
        }
    }
}

impl JsonSchema for Fetchers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Fetchers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? self >= 1 && self <= 8 : self == 'Auto'",
                "message": "fetchers is Auto or a number from 1 to 8",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_word_or_a_number() {
        for (written, meant) in [(json!("Auto"), Fetchers::Auto), (json!(8), Fetchers::Exactly(8))] {
            assert_eq!(from_value::<Fetchers>(written.clone()).unwrap(), meant);
            assert_eq!(to_value(meant).unwrap(), written);
        }
        assert_eq!(from_value::<Fetchers>(json!(null)).unwrap(), Fetchers::Auto);
        for wrong in [json!("auto"), json!("2"), json!(0), json!(9), json!(-1), json!(1.5), json!({})] {
            assert!(from_value::<Fetchers>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
