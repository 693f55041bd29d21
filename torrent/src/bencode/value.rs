//! Views into input that `scan` has accepted. On anything else they would end early, never panic.

use super::scan::{integer, string};

/// One value, borrowed from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `i42e`.
    Int(i64),
    /// `4:spam`: bytes, not text.
    Bytes(&'a [u8]),
    /// `l...e`.
    List(List<'a>),
    /// `d...e`, keys strictly ascending.
    Dict(Dict<'a>),
}

impl<'a> Value<'a> {
    /// The integer, if this is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The byte string, if this is one.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The byte string as text, if this is one and valid UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The list, if this is one.
    pub fn as_list(&self) -> Option<List<'a>> {
        if let Self::List(list) = self { Some(*list) } else { None }
    }

    /// The dictionary, if this is one.
    pub fn as_dict(&self) -> Option<Dict<'a>> {
        if let Self::Dict(dict) = self { Some(*dict) } else { None }
    }
}

/// A list, where it lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    raw: &'a [u8],
}

impl<'a> List<'a> {
    /// The encoded form, with `l` and `e`.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The values in order. A step costs the length of the value.
    pub fn iter(&self) -> ListIter<'a> {
        ListIter { rest: inner(self.raw) }
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &List<'a> {
    type Item = Value<'a>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

/// The values of a [`List`].
#[derive(Debug, Clone)]
pub struct ListIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ListIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (value, end) = read(self.rest)?;
        self.rest = &self.rest[end..];
        Some(value)
    }
}

/// A dictionary, where it lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dict<'a> {
    raw: &'a [u8],
}

impl<'a> Dict<'a> {
    /// The encoded form, with `d` and `e`: what an infohash is computed on.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The entries in order of their keys. A step costs the length of the entry.
    pub fn iter(&self) -> DictIter<'a> {
        DictIter { rest: inner(self.raw) }
    }

    /// Keys and the encoded form of their values, in order.
    pub fn raw_entries(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = inner(self.raw);
        std::iter::from_fn(move || {
            let (key, start) = string(rest, 0).ok()?;
            let (_, length) = read(&rest[start..])?;
            let value = &rest[start..start + length];
            rest = &rest[start + length..];
            Some((key, value))
        })
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let key = key.as_ref();
        self.iter()
            .take_while(|(found, _)| *found <= key)
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// The values of some keys, which ascend, in one pass: for dictionaries with large values that are asked for several keys.
    pub fn select(&self, keys: &'static [&'static str]) -> Selected<'a> {
        debug_assert!(keys.len() <= MAX_SELECTED && keys.is_sorted(), "few keys, in ascending order");
        let mut selected = Selected { dict: *self, keys, values: [None; MAX_SELECTED] };
        let mut next = 0;
        let mut rest = inner(self.raw);
        while let Ok((key, start)) = string(rest, 0) {
            next += keys[next..].iter().take_while(|wanted| wanted.as_bytes() < key).count();
            // What follows the last wanted key is not looked at.
            let Some(wanted) = keys.get(next) else { break };
            let Some((value, length)) = read(&rest[start..]) else { break };
            if wanted.as_bytes() == key {
                selected.values[next] = Some(value);
            }
            rest = &rest[start + length..];
        }
        selected
    }

    /// Everything inside as a flat sequence: a deep tree in one pass.
    pub fn events(&self) -> Events<'a> {
        Events { rest: self.raw }
    }
}

/// Keys that [`Dict::select`] takes.
const MAX_SELECTED: usize = 12;

/// Some values of a dictionary, see [`Dict::select`].
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    dict: Dict<'a>,
    keys: &'static [&'static str],
    values: [Option<Value<'a>>; MAX_SELECTED],
}

impl<'a> Selected<'a> {
    /// The value of a key, which must be one of those that were selected.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let at = self.keys.iter().position(|known| *known == key);
        debug_assert!(at.is_some(), "{key} is not among the selected keys");
        at.and_then(|at| self.values[at])
    }

    /// The dictionary.
    pub fn dict(&self) -> Dict<'a> {
        self.dict
    }
}

impl<'a> IntoIterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = DictIter<'a>;

    fn into_iter(self) -> DictIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Dict<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = DictIter<'a>;

    fn into_iter(self) -> DictIter<'a> {
        self.iter()
    }
}

/// The entries of a [`Dict`].
#[derive(Debug, Clone)]
pub struct DictIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for DictIter<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let (key, start) = string(self.rest, 0).ok()?;
        let (value, length) = read(&self.rest[start..])?;
        self.rest = &self.rest[start + length..];
        Some((key, value))
    }
}

/// One step of [`Dict::events`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// An integer.
    Int(i64),
    /// A string or a key.
    Bytes(&'a [u8]),
    /// A list opens.
    List,
    /// A dictionary opens; keys and values follow in turn.
    Dict,
    /// The innermost list or dictionary ends.
    End,
}

/// Walks nested values without recursion.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Events<'a> {
    /// Takes the whole value that comes next. `None` where a container ends.
    pub fn value(&mut self) -> Option<Value<'a>> {
        let (value, end) = read(self.rest)?;
        self.rest = &self.rest[end..];
        Some(value)
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let (event, end) = match *self.rest.first()? {
            b'i' => integer(self.rest, 0).map(|(int, end)| (Event::Int(int), end)).ok()?,
            b'l' => (Event::List, 1),
            b'd' => (Event::Dict, 1),
            b'e' => (Event::End, 1),
            _ => string(self.rest, 0).map(|(bytes, end)| (Event::Bytes(bytes), end)).ok()?,
        };
        self.rest = &self.rest[end..];
        Some(event)
    }
}

/// What lies between a container's first and last byte.
fn inner(raw: &[u8]) -> &[u8] {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

/// The value at the start of checked input, and its length.
pub(super) fn read(input: &[u8]) -> Option<(Value<'_>, usize)> {
    match *input.first()? {
        b'i' => integer(input, 0).map(|(int, end)| (Value::Int(int), end)).ok(),
        b'l' => skip(input).map(|end| (Value::List(List { raw: &input[..end] }), end)),
        b'd' => skip(input).map(|end| (Value::Dict(Dict { raw: &input[..end] }), end)),
        _ => string(input, 0).map(|(bytes, end)| (Value::Bytes(bytes), end)).ok(),
    }
}

/// The length of the container at the start of checked input. Large ones are skipped several times on the way to what they hold,
/// so this does not look at more than it has to.
fn skip(input: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0usize, 0usize);
    loop {
        match *input.get(at)? {
            b'l' | b'd' => depth += 1,
            b'e' => depth = depth.checked_sub(1)?,
            b'i' => at += input[at..].iter().position(|byte| *byte == b'e')?,
            _ => at = at.checked_add(string_length(&input[at..])?)? - 1,
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The length of the string at the start of checked input, with its prefix.
fn string_length(input: &[u8]) -> Option<usize> {
    let mut length = 0usize;
    for (at, byte) in input.iter().enumerate() {
        match byte {
            b'0'..=b'9' => length = length.checked_mul(10)?.checked_add(usize::from(byte - b'0'))?,
            b':' => return length.checked_add(at + 1),
            _ => return None,
        }
    }
    None
}
