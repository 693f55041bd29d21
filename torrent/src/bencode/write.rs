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

    /// Behind what `out` holds: a server writes into a buffer that it has used before.
    pub fn behind(out: Vec<u8>) -> Self {
        Writer { out }
    }

    /// A signed integer.
    pub fn int(&mut self, int: i64) {
        self.out.push(b'i');
        if int < 0 {
            self.out.push(b'-');
        }
        push_decimal(&mut self.out, int.unsigned_abs());
        self.out.push(b'e');
    }

    /// An unsigned integer. Readers take 63 bits.
    pub fn uint(&mut self, int: u64) {
        self.out.push(b'i');
        push_decimal(&mut self.out, int);
        self.out.push(b'e');
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        push_decimal(&mut self.out, bytes.len() as u64);
        self.out.push(b':');
        self.out.extend_from_slice(bytes);
    }

    /// One byte string of `parts`, which are gone through twice: its length stands first.
    pub fn concat<P: AsRef<[u8]>>(&mut self, parts: impl Iterator<Item = P> + Clone) {
        let length: usize = parts.clone().map(|part| part.as_ref().len()).sum();
        push_decimal(&mut self.out, length as u64);
        self.out.push(b':');
        parts.for_each(|part| self.out.extend_from_slice(part.as_ref()));
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

/// Appends `number` in decimal digits, without an allocation.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    /// Digits of the largest `u64`.
    const LONGEST: usize = 20;
    let mut digits = [0; LONGEST];
    let mut first = LONGEST;
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            let mut writer = Writer::behind(b"x".to_vec());
            writer.uint(number);
            writer.int(number.cast_signed());
            let expected = format!("xi{number}ei{}e", number.cast_signed());
            assert_eq!(String::from_utf8(writer.into_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn parts_make_one_string() {
        let mut writer = Writer::new();
        writer.concat([&b"ab"[..], b"", b"cde"].into_iter());
        writer.concat(std::iter::empty::<[u8; 6]>());
        assert_eq!(writer.into_bytes(), b"5:abcde0:");
    }
}
