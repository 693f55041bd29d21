//! Strict, zero-copy bencode (BEP 3): what is read is canonical, or it is refused.
//!
//! [`decode`] checks the whole input once, without recursion and without building a tree: memory is one small frame per open
//! container, whatever the input says. The [`Value`] it returns is a view into the input; lists and dictionaries are walked
//! where they lie. So a hostile file costs a scan and nothing more.

mod scan;
mod value;
mod write;

pub use scan::DecodeError;
pub use value::{Dict, DictIter, Event, Events, List, ListIter, Selected, Value};
pub use write::{DictWriter, Writer, push_decimal};

/// Deepest nesting that is read: what libtorrent takes.
pub const MAX_DEPTH: usize = 100;

/// Caps for decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole input.
    pub bytes: usize,
    /// Integers, strings (keys too), lists and dictionaries together.
    pub tokens: usize,
    /// Lists and dictionaries inside each other.
    pub depth: usize,
}

/// Decodes an input that is exactly one value.
pub fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Value<'a>, DecodeError> {
    let (value, length) = decode_prefix(input, limits)?;
    if length < input.len() {
        return Err(DecodeError::TrailingBytes { at: length });
    }
    Ok(value)
}

/// Decodes the value at the start of the input and says how long it is: the messages of BEP 9 have data behind it.
/// `limits.bytes` counts the whole input.
pub fn decode_prefix<'a>(input: &'a [u8], limits: &Limits) -> Result<(Value<'a>, usize), DecodeError> {
    let length = scan::scan(input, limits)?;
    let value = value::read(&input[..length]).map(|(value, _)| value);
    Ok((value.ok_or(DecodeError::Truncated { at: length })?, length))
}
