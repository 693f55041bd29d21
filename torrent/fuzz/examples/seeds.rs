//! Writes the .torrent seeds again: `cargo run --example seeds` in this folder.

use std::path::Path;

use torrent::{Builder, Metainfo, RelPath, Version};

/// The smallest pieces make the smallest seeds.
const PIECE_LENGTH: u64 = 16 * 1024;

const VERSIONS: [(&str, Version); 3] =
    [("v1", Version::V1), ("v2", Version::V2), ("hybrid", Version::Hybrid)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/metainfo");
    std::fs::create_dir_all(&folder)?;
    for (name, version) in VERSIONS {
        for (kind, sizes) in
            [("file", &[40_000][..]), ("small", &[5]), ("empty", &[0]), ("tree", &[40_000, 0, 16_384, 7])]
        {
            let torrent = build(version, sizes)?;
            let torrent = match kind {
                "file" => torrent.with_trackers(vec![vec!["http://a/announce".into()]]),
                "tree" => torrent.with_trackers(vec![
                    vec!["http://a/".into(), "http://b/".into()],
                    vec!["udp://c".into()],
                ]),
                _ => torrent,
            };
            std::fs::write(folder.join(format!("{name}_{kind}.torrent")), torrent.encode())?;
        }
    }
    Ok(())
}

/// A torrent of files of these sizes.
fn build(version: Version, sizes: &[usize]) -> Result<Metainfo, Box<dyn std::error::Error>> {
    let mut builder = Builder::new(version, PIECE_LENGTH)?.private(sizes.len() == 1);
    let mut hashed = Vec::new();
    let mut concatenation = builder.v1_hasher();
    for (index, size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (0..*size).map(|at| (at % 251) as u8).collect();
        let mut hasher = builder.file_hasher(sizes.len());
        hasher.update(&bytes);
        concatenation.update(&bytes);
        // In ascending order, and two of them in a folder.
        hashed.push((
            RelPath::parse(&format!("{}{index}", if index < 2 { "a/" } else { "b" }))?,
            hasher.finish(),
        ));
    }
    if builder.needs_v1_pass(sizes.len()) {
        builder = builder.v1_pieces(concatenation.finish());
    }
    Ok(builder.build(hashed)?)
}
