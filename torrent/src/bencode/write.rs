//! Writing bencode.

/// Appends values to a buffer.
///
/// ```
/// let mut writer = torrent::bencode::Writer::new();
/// writer.dict(|dict| {
///     dict.entry("interval").int(30);
///     dict.entry("peers").bytes(b"\x7f\0\0\x01\x1a\xe1");
/// });
/// assert_eq!(writer.into_bytes(), b"d8:intervali30e5:peers6:\x7f\0\0\x01\x1a\xe1e");
/// ```
#[derive(Debug, Default, Clone)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signed integer.
    pub fn int(&mut self, int: i64) {
        self.out.extend_from_slice(format!("i{int}e").as_bytes());
    }

    /// An unsigned integer. Readers take 63 bits.
    pub fn uint(&mut self, int: u64) {
        self.out.extend_from_slice(format!("i{int}e").as_bytes());
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
        self.out.extend_from_slice(bytes);
    }

    /// A value that is encoded already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// A list of what `fill` writes.
    pub fn list(&mut self, fill: impl FnOnce(&mut Self)) {
        self.out.push(b'l');
        fill(self);
        self.out.push(b'e');
    }

    /// A dictionary of what `fill` writes.
    pub fn dict(&mut self, fill: impl FnOnce(&mut DictWriter<'_>)) {
        self.out.push(b'd');
        fill(&mut DictWriter { writer: self, last: None });
        self.out.push(b'e');
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

/// Writes the entries of a dictionary.
#[derive(Debug)]
pub struct DictWriter<'a> {
    writer: &'a mut Writer,
    /// Where the key before this one lies in the buffer.
    last: Option<std::ops::Range<usize>>,
}

impl DictWriter<'_> {
    /// Writes a key; exactly one value must be written to what this returns. Keys come in ascending order of their bytes:
    /// the order is the caller's, and checked in debug builds.
    pub fn entry(&mut self, key: impl AsRef<[u8]>) -> &mut Writer {
        let key = key.as_ref();
        self.writer.bytes(key);
        let end = self.writer.out.len();
        if let Some(last) = self.last.replace(end - key.len()..end) {
            debug_assert!(&self.writer.out[last] < key, "keys of a bencoded dictionary ascend");
        }
        self.writer
    }
}
