//! SHA-256 of what is read from the start to the end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Read at a time.
const READ: usize = 128 * 1024;

/// Of all bytes of a file.
pub fn of_file(path: &Path) -> io::Result<[u8; 32]> {
    of(File::open(path)?)
}

/// Of all that comes.
pub fn of(mut from: impl Read) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; READ]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(count) => hasher.update(&buffer[..count]),
            // A signal came in between.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, and is interrupted before each.
    struct Dribble<'a>(&'a [u8], bool);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(1);
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn all_bytes_count_however_they_come() {
        let long = vec![7; 300_000];
        for bytes in [&b""[..], b"abc", &long] {
            let expected: [u8; 32] = Sha256::digest(bytes).into();
            assert_eq!(of(bytes).unwrap(), expected);
            assert_eq!(of(Dribble(bytes, false)).unwrap(), expected);
        }
        assert!(of_file(Path::new("/nothing/here")).is_err());
    }
}
