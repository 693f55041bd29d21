//! The one pass that decides whether bytes are canonical bencode.

use super::Limits;

/// Why bytes are not canonical bencode within the limits. `at` is an offset into the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input is larger than the limit.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Length of the input.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The input has more values than the limit.
    #[error("more than {limit} values")]
    TooManyTokens {
        /// The limit.
        limit: usize,
    },
    /// Lists and dictionaries are nested deeper than the limit.
    #[error("nested deeper than {limit} at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
        /// The limit.
        limit: usize,
    },
    /// The input ends inside a value.
    #[error("ends in the middle of a value at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// Something follows the value.
    #[error("unexpected data after the end at byte {at}")]
    TrailingBytes {
        /// Where.
        at: usize,
    },
    /// A byte that starts no value, or a key that is not a string.
    #[error("unexpected byte at {at}")]
    UnexpectedByte {
        /// Where.
        at: usize,
    },
    /// An integer that is empty, has leading zeros or a negative zero, or does not fit 64 bits.
    #[error("bad integer at byte {at}")]
    BadInteger {
        /// Where.
        at: usize,
    },
    /// A string length with leading zeros, or one that is longer than what is left of the input.
    #[error("bad string length at byte {at}")]
    BadLength {
        /// Where.
        at: usize,
    },
    /// A dictionary key that is not greater than the one before it.
    #[error("dictionary keys unsorted or twice at byte {at}")]
    KeyOrder {
        /// Where.
        at: usize,
    },
    /// A dictionary that ends after a key.
    #[error("dictionary key without a value at byte {at}")]
    MissingValue {
        /// Where.
        at: usize,
    },
}

/// An open container. `last` is the key read most recently, `value_next` whether its value is still to come.
enum Frame<'a> {
    List,
    Dict { last: Option<&'a [u8]>, value_next: bool },
}

/// The length of the value that the input starts with.
pub(super) fn scan(input: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    if input.len() > limits.bytes {
        return Err(DecodeError::TooLarge { bytes: input.len(), limit: limits.bytes });
    }
    let mut stack: Vec<Frame<'_>> = Vec::new();
    let (mut at, mut tokens) = (0, 0);
    loop {
        let byte = *input.get(at).ok_or(DecodeError::Truncated { at })?;
        if byte == b'e' {
            match stack.pop() {
                Some(Frame::Dict { value_next: true, .. }) => return Err(DecodeError::MissingValue { at }),
                Some(_) => at += 1,
                None => return Err(DecodeError::UnexpectedByte { at }),
            }
        } else {
            tokens += 1;
            if tokens > limits.tokens {
                return Err(DecodeError::TooManyTokens { limit: limits.tokens });
            }
            at = enter(input, at, byte, &mut stack, limits)?;
        }
        if stack.is_empty() {
            return Ok(at);
        }
    }
}

/// Reads a key, a scalar, or the opening of a container; returns where the next token starts.
fn enter<'a>(
    input: &'a [u8],
    at: usize,
    byte: u8,
    stack: &mut Vec<Frame<'a>>,
    limits: &Limits,
) -> Result<usize, DecodeError> {
    if let Some(Frame::Dict { last, value_next }) = stack.last_mut() {
        if !*value_next {
            let (key, end) = string(input, at)?;
            if last.is_some_and(|last| last >= key) {
                return Err(DecodeError::KeyOrder { at });
            }
            (*last, *value_next) = (Some(key), true);
            return Ok(end);
        }
        *value_next = false;
    }
    let frame = match byte {
        b'i' => return integer(input, at).map(|(_, end)| end),
        b'0'..=b'9' => return string(input, at).map(|(_, end)| end),
        b'l' => Frame::List,
        b'd' => Frame::Dict { last: None, value_next: false },
        _ => return Err(DecodeError::UnexpectedByte { at }),
    };
    if stack.len() >= limits.depth {
        return Err(DecodeError::TooDeep { at, limit: limits.depth });
    }
    stack.push(frame);
    Ok(at + 1)
}

/// The string at `at` and the offset behind it.
pub(super) fn string(input: &[u8], at: usize) -> Result<(&[u8], usize), DecodeError> {
    let digits = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let colon = at + digits;
    match input.get(colon) {
        Some(b':') if digits > 0 => {}
        None if digits > 0 => return Err(DecodeError::Truncated { at }),
        _ => return Err(DecodeError::UnexpectedByte { at: colon }),
    }
    if digits > 1 && input[at] == b'0' {
        return Err(DecodeError::BadLength { at });
    }
    let length = decimal(&input[at..colon]).and_then(|length| usize::try_from(length).ok());
    let start = colon + 1;
    let end = length.and_then(|length| start.checked_add(length)).ok_or(DecodeError::BadLength { at })?;
    Ok((input.get(start..end).ok_or(DecodeError::BadLength { at })?, end))
}

/// The integer at `at`, which holds the `i`, and the offset behind its `e`.
pub(super) fn integer(input: &[u8], at: usize) -> Result<(i64, usize), DecodeError> {
    let negative = input.get(at + 1) == Some(&b'-');
    let start = at + 1 + usize::from(negative);
    let digits = input[start.min(input.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = start + digits;
    match input.get(end) {
        None => return Err(DecodeError::Truncated { at }),
        Some(b'e') => {}
        Some(_) => return Err(DecodeError::BadInteger { at }),
    }
    let zero_first = input[start] == b'0';
    if digits == 0 || (zero_first && (digits > 1 || negative)) {
        return Err(DecodeError::BadInteger { at });
    }
    let magnitude = decimal(&input[start..end]).ok_or(DecodeError::BadInteger { at })?;
    let value = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    Ok((value.ok_or(DecodeError::BadInteger { at })?, end + 1))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}
