//! Test payloads: bytes that look random, are the same in every run, and need no disk; and torrents of them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Result;
use sha2::{Digest as _, Sha256};
use torrent::{Builder, Metainfo, RelPath, Version};

/// Bytes hashed or made at a time.
const CHUNK: usize = 256 * 1024;

/// Fills `out` with the bytes of stream `seed` from `offset` on.
pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let mut word_index = offset / 8;
    let mut skip = (offset % 8) as usize;
    let mut out = out;
    while !out.is_empty() {
        let word = splitmix(seed ^ splitmix(word_index)).to_le_bytes();
        let n = out.len().min(8 - skip);
        out[..n].copy_from_slice(&word[skip..skip + n]);
        out = &mut out[n..];
        (word_index, skip) = (word_index + 1, 0);
    }
}

/// The first `size` bytes of stream `seed`.
pub fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fill(seed, 0, &mut bytes);
    bytes
}

/// A torrent of these files, which come in its order.
pub fn torrent(builder: Builder, files: &[(RelPath, Vec<u8>)]) -> Result<Metainfo> {
    let mut whole = builder.v1_hasher();
    let mut hashed = Vec::with_capacity(files.len());
    for (path, bytes) in files {
        let mut of_file = builder.file_hasher(files.len());
        of_file.update(bytes);
        whole.update(bytes);
        hashed.push((path.clone(), of_file.finish()));
    }
    let builder =
        if builder.needs_v1_pass(files.len()) { builder.v1_pieces(whole.finish()) } else { builder };
    Ok(builder.build(hashed)?)
}

/// A torrent of one file in pieces of 256 KiB, and its bytes: the first `size` of stream `seed`.
pub fn of_one_file(version: Version, seed: u64, size: usize) -> Result<(Metainfo, Vec<u8>)> {
    let files = [(RelPath::parse("data")?, bytes(seed, size))];
    let metainfo = torrent(Builder::new(version, 1 << 18)?, &files)?;
    let [(_, bytes)] = files;
    Ok((metainfo, bytes))
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): a good mixer of few instructions.
fn splitmix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hands the first `size` bytes of stream `seed` to `take`, chunk by chunk.
pub fn generate(seed: u64, size: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let n = usize::try_from(size - at).map_or(CHUNK, |left| left.min(CHUNK));
        fill(seed, at, &mut chunk[..n]);
        take(&chunk[..n])?;
        at += n as u64;
    }
    Ok(())
}

/// The SHA-256, in hexadecimal, of the first `size` bytes of stream `seed`.
pub fn sha256(seed: u64, size: u64) -> String {
    let mut hash = Sha256::new();
    let hashed = generate(seed, size, |chunk| {
        hash.update(chunk);
        Ok(())
    });
    hashed.expect("hashing cannot fail");
    hex(hash)
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256_file(path: &Path) -> Result<String> {
    let (mut file, mut hash, mut chunk) = (File::open(path)?, Sha256::new(), vec![0; CHUNK]);
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(hex(hash));
        }
        hash.update(&chunk[..n]);
    }
}

fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let mut whole = vec![0; 1000];
        super::fill(7, 3, &mut whole);
        for cut in [1, 5, 8, 13, 999] {
            let (mut a, mut b) = (vec![0; cut], vec![0; 1000 - cut]);
            super::fill(7, 3, &mut a);
            super::fill(7, 3 + cut as u64, &mut b);
            assert_eq!([a, b].concat(), whole, "cut at {cut}");
        }
    }
}
