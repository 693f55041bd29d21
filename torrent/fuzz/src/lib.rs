//! What the fuzz targets share.

use torrent::bencode::{Value, Writer};

/// Writes a decoded value again, value by value.
pub fn write(value: Value<'_>, writer: &mut Writer) {
    match value {
        Value::Int(int) => writer.int(int),
        Value::Bytes(bytes) => writer.bytes(bytes),
        Value::List(list) => writer.list(|writer| list.iter().for_each(|value| write(value, writer))),
        Value::Dict(dict) => writer.dict(|entries| {
            dict.iter().for_each(|(key, value)| write(value, entries.entry(key)));
        }),
    }
}

/// The bytes of a value, written by [`write`].
pub fn encode(value: Value<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    write(value, &mut writer);
    writer.into_bytes()
}
