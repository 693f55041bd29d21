//! What decodes is canonical: it encodes to the same bytes, and no part of it is a whole value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::bencode::{self, Dict, Limits, MAX_DEPTH, Value};
use torrent_fuzz::encode;

const LIMITS: Limits = Limits { bytes: 1 << 20, tokens: 10_000, depth: MAX_DEPTH };

/// Keys that are looked up one by one: each costs a walk.
const LOOKED_UP: usize = 16;

fuzz_target!(|input: &[u8]| {
    let whole = bencode::decode(input, &LIMITS);
    let Ok((value, length)) = bencode::decode_prefix(input, &LIMITS) else {
        assert!(whole.is_err(), "a whole value is a prefix too");
        return;
    };
    assert_eq!(whole.is_ok(), length == input.len());
    let encoded = &input[..length];
    assert_eq!(encode(value), encoded);
    assert_eq!(bencode::decode(encoded, &LIMITS), Ok(value));
    assert!(bencode::decode_prefix(&encoded[..length - 1], &LIMITS).is_err(), "a value ends where it ends");
    match value {
        Value::Dict(dict) => check_dict(dict, encoded),
        Value::List(list) => assert_eq!(list.raw(), encoded),
        Value::Int(int) => assert_eq!(value.as_int(), Some(int)),
        Value::Bytes(bytes) => assert!(encoded.ends_with(bytes)),
    }
});

fn check_dict(dict: Dict<'_>, encoded: &[u8]) {
    assert_eq!(dict.raw(), encoded);
    for (key, value) in dict.iter().take(LOOKED_UP) {
        assert_eq!(dict.get(key), Some(value));
        assert_eq!(
            dict.get([key, b"\0"].concat()),
            dict.iter().find(|(k, _)| k.strip_suffix(b"\0") == Some(key)).map(|(_, v)| v)
        );
    }
    assert!(dict.iter().map(|(key, _)| key).is_sorted_by(|a, b| a < b));
}
