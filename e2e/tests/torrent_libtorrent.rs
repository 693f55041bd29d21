//! libtorrent 2.1.1 and we agree about torrents, in both directions: it computes the same infohashes for what we make and
//! finds the payload right; we read what it makes, with its infohashes, and verify every piece.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::python;
use serde_json::{Value, json};
use torrent::{Builder, Limits, Metainfo, RelPath, Version};

/// A file of the payload: where it lies, what it holds.
type Content = (String, Vec<u8>);

const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::Hybrid];

fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|i| ((i * i + 7 * i) % 251) as u8).collect()
}

fn contents<const N: usize>(files: [(&str, u64); N]) -> Vec<Content> {
    files.map(|(path, len)| (path.to_owned(), pattern(len))).to_vec()
}

/// One payload with a piece length. `ordered`: libtorrent's own creator puts these files in the order of the file tree
/// (it sorts whole paths, so that `b.txt` comes before `b/x`, and then refuses its own hybrids).
struct Case {
    name: &'static str,
    piece_length: u64,
    files: Vec<Content>,
    ordered: bool,
}

fn cases() -> Vec<Case> {
    let case = |name, piece_length, files| Case { name, piece_length, files, ordered: true };
    let many = (0..2_000).map(|i| (format!("{:02}/{i:05}.json", i % 50), pattern(i % 400 + 1))).collect();
    let tree = contents([
        ("b/ü.txt", 100),
        ("a", 40_000),
        ("c.txt", 16_384),
        ("b/copy of a", 40_000),
        ("b/deep/er/empty", 0),
        ("piece", 32_768),
        ("large", 200_000),
    ]);
    let odd = contents([("foo... bar", 5), ("..foo", 6), ("...", 7), ("x y/z", 20_000), ("ends", 65_536)]);
    vec![
        case("blob", 1 << 20, contents([("any.bin", 5_000_000)])),
        case("blob of one byte", 1 << 20, contents([("any.bin", 1)])),
        case("blob of one piece", 1 << 20, contents([("any.bin", 1 << 20)])),
        case("blob of a piece and a byte", 1 << 20, contents([("any.bin", (1 << 20) + 1)])),
        case("blob of small pieces", 1 << 14, contents([("any.bin", 300_000)])),
        case("tree", 1 << 15, tree),
        case("odd names", 1 << 16, odd),
        case(
            "empty files around",
            1 << 15,
            contents([("a", 0), ("b", 10), ("c", 0), ("d", 40_000), ("e", 0)]),
        ),
        case("many small files", 1 << 16, many),
        Case {
            name: "order of names",
            piece_length: 1 << 15,
            files: contents([("b.txt", 100), ("b/x", 200), ("b-", 40_000), ("B!", 1)]),
            ordered: false,
        },
    ]
}

/// The canonical torrent, as a fetcher makes it.
fn build(version: Version, case: &Case) -> Result<Metainfo> {
    let mut builder = Builder::new(version, case.piece_length)?;
    let mut hashed = Vec::new();
    for (path, bytes) in &case.files {
        let mut of_file = builder.file_hasher(case.files.len());
        bytes.chunks(100_003).for_each(|chunk| of_file.update(chunk));
        hashed.push((RelPath::parse(path)?, of_file.finish()));
    }
    if builder.needs_v1_pass(case.files.len()) {
        let mut concatenation = builder.v1_hasher();
        for (_, bytes) in sorted(&case.files)? {
            concatenation.update(bytes);
        }
        builder = builder.v1_pieces(concatenation.finish());
    }
    Ok(builder.build(hashed)?)
}

fn sorted(files: &[Content]) -> Result<Vec<(RelPath, &[u8])>> {
    let mut sorted: Vec<_> = files
        .iter()
        .map(|(path, bytes)| Ok((RelPath::parse(path)?, bytes.as_slice())))
        .collect::<Result<_>>()?;
    sorted.sort();
    Ok(sorted)
}

/// Writes the payload where a client looks for it, and returns the folder to save to.
fn lay_out(folder: &Path, metainfo: &Metainfo, files: &[Content]) -> Result<PathBuf> {
    let save = folder.join("save");
    for (path, bytes) in files {
        let path = if metainfo.is_single_file() {
            save.join(metainfo.name())
        } else {
            save.join(metainfo.name()).join(path)
        };
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(path, bytes)?;
    }
    Ok(save)
}

/// What `show` answers for a torrent that we have read.
fn shown(metainfo: &Metainfo) -> Value {
    let files: Vec<Value> = metainfo
        .files()
        .iter()
        .map(|file| json!([file.path.as_str(), file.size, file.pieces_root.map(hex_of)]))
        .collect();
    let map = metainfo.pieces();
    let sizes: Vec<u32> = (0..map.count()).map(|piece| map.padded_len(piece)).collect();
    let sizes = metainfo.version().has_v1().then_some(sizes);
    json!({
        "v1": metainfo.info_hash_v1().map(|hash| hash.to_string()),
        "v2": metainfo.info_hash_v2().map(|hash| hash.to_string()),
        "name": metainfo.name(),
        "piece_length": metainfo.piece_length(),
        "pieces": map.count(),
        "piece_sizes": sizes,
        "files": files,
    })
}

fn hex_of(hash: [u8; 32]) -> String {
    torrent::InfoHashV2(hash).to_string()
}

/// Verifies all pieces, each side there is.
fn verify(metainfo: &Metainfo, content: impl Fn(&str) -> Option<Vec<u8>>) -> Result<()> {
    let files: Vec<Vec<u8>> = metainfo
        .files()
        .iter()
        .map(|file| content(file.path.as_str()).with_context(|| format!("no {:?}", file.path)))
        .collect::<Result<_>>()?;
    let map = metainfo.pieces();
    for piece in 0..map.count() {
        for mut verifier in [map.verifier(piece), map.v1_verifier(piece)].into_iter().flatten() {
            for segment in map.segments(piece) {
                let from = segment.offset_in_file as usize;
                verifier
                    .feed(segment.offset_in_piece, &files[segment.file][from..from + segment.len as usize])?;
            }
            ensure!(verifier.finish(), "piece {piece} does not verify");
        }
    }
    Ok(())
}

/// libtorrent reads our torrents with our infohashes and files, and finds the payload on disk right.
#[test]
fn libtorrent_accepts_what_we_make() -> Result<()> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(python) = python::libtorrent("libtorrent_accepts_what_we_make", scratch)? else {
        return Ok(());
    };
    let folder = tempfile::tempdir_in(scratch)?;
    let (mut jobs, mut expected) = (Vec::new(), Vec::new());
    for (index, case) in cases().iter().enumerate() {
        for version in VERSIONS {
            let metainfo = build(version, case)?;
            let here = folder.path().join(format!("{index}-{version:?}"));
            let save = lay_out(&here, &metainfo, &case.files)?;
            let file = here.join("made.torrent");
            fs::write(
                &file,
                metainfo.clone().with_trackers(vec![vec!["http://t/announce".into()]]).encode(),
            )?;
            jobs.push(json!({"do": "show", "torrent": file}));
            jobs.push(json!({"do": "check", "torrent": file, "folder": save}));
            expected.push((format!("{} {version:?}", case.name), metainfo));
        }
    }
    let answers = python::ask_libtorrent(&python, &jobs)?;
    ensure!(answers.len() == jobs.len());
    for ((what, metainfo), answers) in expected.iter().zip(answers.chunks(2)) {
        assert_eq!(answers[0], shown(metainfo), "{what}");
        assert_eq!(answers[1]["complete"], json!(true), "{what}: {}", answers[1]);
    }
    Ok(())
}

/// From the same files under the same name libtorrent makes the same `info`, to the bit.
#[test]
fn libtorrent_makes_the_same_infohashes() -> Result<()> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(python) = python::libtorrent("libtorrent_makes_the_same_infohashes", scratch)? else {
        return Ok(());
    };
    let folder = tempfile::tempdir_in(scratch)?;
    let (mut jobs, mut expected) = (Vec::new(), Vec::new());
    for (index, case) in cases().iter().filter(|case| case.ordered).enumerate() {
        for version in VERSIONS {
            let metainfo = build(version, case)?;
            let here = folder.path().join(format!("{index}-{version:?}"));
            let save = lay_out(&here, &metainfo, &case.files)?;
            jobs.push(create(&save, metainfo.name(), case, version, true, &here.join("theirs.torrent"))?);
            expected.push((format!("{} {version:?}", case.name), metainfo, here));
        }
    }
    for ((what, metainfo, here), answer) in expected.iter().zip(python::ask_libtorrent(&python, &jobs)?) {
        assert_eq!(answer["made"], shown(metainfo), "{what}: {answer}");
        let theirs = Metainfo::parse(&fs::read(here.join("theirs.torrent"))?, &Limits::FOREIGN)?;
        assert_eq!(theirs.info_bytes(), metainfo.info_bytes(), "{what}");
        let undated = theirs.with_creation_date(None).with_created_by(None);
        assert_eq!(undated.encode(), metainfo.encode(), "{what}");
    }
    Ok(())
}

fn create(
    save: &Path,
    name: &str,
    case: &Case,
    version: Version,
    private: bool,
    out: &Path,
) -> Result<Value> {
    let files: Vec<Value> =
        sorted(&case.files)?.iter().map(|(path, bytes)| json!([path.as_str(), bytes.len()])).collect();
    Ok(json!({
        "do": "create",
        "folder": save,
        "name": name,
        "files": files,
        "single": case.files.len() == 1,
        "version": format!("{version:?}"),
        "piece_length": case.piece_length,
        "private": private,
        "out": out,
    }))
}

/// What libtorrent makes under names of its own is read with its infohashes, and every piece verifies.
#[test]
fn we_read_and_verify_what_libtorrent_makes() -> Result<()> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(python) = python::libtorrent("we_read_and_verify_what_libtorrent_makes", scratch)? else {
        return Ok(());
    };
    let folder = tempfile::tempdir_in(scratch)?;
    let (mut jobs, mut made) = (Vec::new(), Vec::new());
    for (index, case) in cases().into_iter().enumerate() {
        let save = folder.path().join(index.to_string());
        let name = "a name of its own";
        for (path, bytes) in &case.files {
            let path = if case.files.len() == 1 { save.join(name) } else { save.join(name).join(path) };
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(path, bytes)?;
        }
        for version in VERSIONS.into_iter().filter(|version| case.ordered || *version != Version::Hybrid) {
            let out = save.join(format!("{version:?}.torrent"));
            jobs.push(create(&save, name, &case, version, false, &out)?);
            made.push((format!("{} {version:?}", case.name), save.clone(), out));
        }
    }
    for ((what, save, out), answer) in made.iter().zip(python::ask_libtorrent(&python, &jobs)?) {
        let metainfo = Metainfo::parse(&fs::read(out)?, &Limits::FOREIGN)
            .with_context(|| format!("{what}: {answer}"))?;
        assert_eq!(shown(&metainfo), answer["made"], "{what}");
        assert!(!metainfo.is_private(), "{what}");
        let root = if metainfo.is_single_file() { save.clone() } else { save.join(metainfo.name()) };
        verify(&metainfo, |path| fs::read(root.join(path)).ok()).with_context(|| what.clone())?;
    }
    Ok(())
}
