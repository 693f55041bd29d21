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

    /// Everything inside as a flat sequence: a deep tree in one pass.
    pub fn events(&self) -> Events<'a> {
        Events { rest: self.raw }
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

/// The length of the container at the start of checked input.
fn skip(input: &[u8]) -> Option<usize> {
    let mut events = Events { rest: input };
    let mut depth = 0usize;
    loop {
        match events.next()? {
            Event::List | Event::Dict => depth += 1,
            Event::End => depth = depth.checked_sub(1)?,
            Event::Int(_) | Event::Bytes(_) => {}
        }
        if depth == 0 {
            return Some(input.len() - events.rest.len());
        }
    }
}
