//! JSON in which nothing is said twice: readers differ in which of two members they take, and a document that means one thing to us
//! and another to the runtime is how images are forged (GHSA-77vh-xpmg-72qh, GHSA-5j5w-g665-5m35).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value of which no object has a member twice.
pub(super) struct Strict(pub Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((key, Strict(value))) = members.next_entry::<String, Strict>()? {
            if all.contains_key(&key) {
                return Err(A::Error::custom(format_args!("it has {:?} twice", short(&key))));
            }
            all.insert(key, value);
        }
        Ok(all.into())
    }
}

/// Go's decoder, which runtimes use, takes `Layers` for `layers`: also with the two letters beyond ASCII that fold into it.
pub(super) fn check_spelling(object: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    let odd = object
        .keys()
        .find(|key| names.iter().any(|name| key.as_str() != *name && folded(key).eq(folded(name))));
    odd.map_or(Ok(()), |key| Err(format!("{:?} is spelled so that readers differ about it", short(key))))
}

/// By Unicode's simple folding, as far as it ends in ASCII, which is what all names are in (`foldName` in Go's `encoding/json`). Rust's
/// own lower case leaves the long s alone.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    })
}

fn short(key: &str) -> String {
    key.chars().take(40).collect()
}
