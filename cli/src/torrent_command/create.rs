//! `samara torrent create`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Args};
use torrent::{Builder, Metainfo, PieceHashes, Plan, Version, piece_length_for};

use super::pieces::{Reading, Watch, processors};
use super::sources::{Source, check_unchanged, sources_without};
use super::{glob, show, target};
use crate::progress::Hashing;
use crate::units::{self, parse_bytes};
use crate::{digest, output};

/// Make a .torrent of a file or a folder.
///
/// Two runs over the same files make the same torrent: there is no date and no name of a program in it unless asked for. With
/// --canonical the name and the place of the files do not count either.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("sides"),
    after_help = "Examples:
  samara torrent create dir/ -a http://10.0.0.1:6969/announce
  samara torrent create model.gguf -a http://a/announce,http://b/announce -a http://c/announce -o model.torrent
  samara torrent create dir/ --v1 -l 1Mi --private --source LAN -o - > dir.torrent
  samara torrent create dir/ --exclude '*.tmp' --exclude .git --json | jq -r .infoHashV2"
)]
#[expect(clippy::struct_excessive_bools, reason = "a command line has flags")]
pub struct CreateArgs {
    /// File or folder
    path: PathBuf,
    /// Where to write it: a file, a folder, or `-` for standard output [default: NAME.torrent here]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(short, long)]
    force: bool,
    /// Announce URL; several with commas make one tier, -a again makes the next one (BEP 12)
    #[arg(short, long, value_name = "URL", alias = "tracker")]
    announce: Vec<String>,
    /// Web seed that serves the files as they are (BEP 19); may be given several times
    #[arg(short, long, value_name = "URL")]
    web_seed: Vec<String>,
    /// Bytes of a piece: a power of two from 16Ki to 64Mi, or `auto`: at least 1Mi, at most 16Mi, some 4,096 pieces
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = parse_piece_length, default_value = "auto")]
    piece_length: PieceLength,
    /// Both sides (the default): for clients of any kind since 2022
    #[arg(long, group = "sides")]
    hybrid: bool,
    /// BEP 52 only
    #[arg(long, group = "sides")]
    v2: bool,
    /// BEP 3 only, for clients from before 2022
    #[arg(long, group = "sides")]
    v1: bool,
    /// Another name than that of the file or folder
    #[arg(short, long, conflicts_with = "canonical")]
    name: Option<String>,
    /// The torrent that a cluster makes of the same bytes: private, and named after them
    #[arg(long, conflicts_with = "source")]
    canonical: bool,
    /// Peers come from the trackers only (BEP 27); makes another infohash
    #[arg(short, long)]
    private: bool,
    /// What to say about it
    #[arg(short, long, value_name = "TEXT")]
    comment: Option<String>,
    /// Where it is to be shared; makes another infohash
    #[arg(short, long, value_name = "TEXT")]
    source: Option<String>,
    /// Write the date, and the name of this program
    #[arg(short, long)]
    date: bool,
    /// Files and folders to leave out, by their path below PATH; `*` matches slashes too; may be given several times
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Threads that hash [default: one for each processor]
    #[arg(short, long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
    /// Name every file
    #[arg(short, long)]
    verbose: bool,
}

/// What `-l` says.
#[derive(Clone, Copy, Debug)]
enum PieceLength {
    Auto,
    Bytes(u64),
}

fn parse_piece_length(text: &str) -> Result<PieceLength, String> {
    if text == "auto" {
        return Ok(PieceLength::Auto);
    }
    let length = parse_bytes(text)?;
    if (14..=26).contains(&length) {
        let meant = units::bytes(1 << length);
        return Err(format!(
            "bytes, not an exponent: 2^{length} is {}",
            meant.trim_end_matches('B').replace(' ', "")
        ));
    }
    Ok(PieceLength::Bytes(length))
}

pub(super) fn run(args: &CreateArgs) -> Result<()> {
    let sources = sources_without(&glob::set(&args.exclude)?, &args.path)?;
    if args.verbose {
        for source in &sources {
            output::say(&format!("{:>13}  {}", source.size, source.path));
        }
    }
    let folder = args.path.is_dir();
    let name = args.name.clone().map_or_else(|| own_name(&args.path), Ok)?;
    let target = target::Target::new(args.output.as_deref(), &name, args.force)?;
    if args.json && target.is_stdout() {
        bail!("--json and the .torrent cannot both go to standard output: name a file with -o");
    }
    let builder = builder(args, &name, folder, total(&sources))?;
    let bar = Hashing::new(total(&sources));
    let metainfo = build(builder, &sources, args.threads.map_or_else(processors, usize::from), &bar);
    bar.finish();
    let metainfo = outside(args, metainfo?)?;
    if loses_its_folder(&metainfo) {
        output::say(
            "note: other clients will put this file down without its folder, which BEP 52 cannot say for one file: \
             leave out --v2 to keep it",
        );
    }
    target.write(&metainfo.encode())?;
    if args.json {
        output::result(&show::as_json(&metainfo, target.file()))?;
    } else if args.verbose {
        output::say(&show::as_text(&metainfo, 0));
    }
    Ok(())
}

/// A file tree of one file is the same whether it lies in a folder or not, but for a `name` that BEP 52 calls advisory.
fn loses_its_folder(metainfo: &Metainfo) -> bool {
    let on_top = |file: &torrent::File| !file.path.as_str().contains('/');
    metainfo.version() == Version::V2
        && !metainfo.is_single_file()
        && matches!(metainfo.files(), [file] if on_top(file))
}

fn total(sources: &[Source]) -> u64 {
    sources.iter().map(|source| source.size).sum()
}

/// The name of a file or folder, also of `.` and `dir/..`.
pub fn own_name(path: &Path) -> Result<String> {
    let full = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let name = path
        .file_name()
        .or_else(|| full.file_name())
        .context("the path has no name: give one with --name")?;
    Ok(name.to_str().with_context(|| format!("the name of {} is not UTF-8", path.display()))?.to_owned())
}

fn builder(args: &CreateArgs, name: &str, folder: bool, size: u64) -> Result<Builder> {
    let version = match (args.v1, args.v2) {
        (true, _) => Version::V1,
        (_, true) => Version::V2,
        _ => Version::Hybrid,
    };
    let length = match args.piece_length {
        PieceLength::Auto => piece_length_for(size),
        PieceLength::Bytes(bytes) => bytes,
    };
    let builder = Builder::new(version, length)?;
    if args.canonical {
        return Ok(builder);
    }
    Ok(builder.named(name)?.folder(folder).private(args.private).source(args.source.clone()))
}

/// What lies outside `info`.
fn outside(args: &CreateArgs, metainfo: Metainfo) -> Result<Metainfo> {
    let metainfo = metainfo
        .with_trackers(args.announce.iter().map(|tier| split_tier(tier)).collect())
        .with_web_seeds(args.web_seed.clone())
        .with_comment(args.comment.clone());
    if !args.date {
        return Ok(metainfo);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.context("the clock stands before 1970")?.as_secs())?;
    let program = concat!("samara ", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(metainfo.with_creation_date(Some(now)).with_created_by(Some(program)))
}

/// `a,b`: two trackers of one tier.
pub(super) fn split_tier(tier: &str) -> Vec<String> {
    tier.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

/// The torrent of a file or a folder that `create` makes without options, or with `--canonical`.
pub fn made(path: &Path, sources: &[Source], canonical: bool, watch: &dyn Watch) -> Result<Metainfo> {
    let builder = Builder::new(Version::Hybrid, piece_length_for(total(sources)))?;
    let builder = if canonical {
        builder
    } else {
        builder.named(&own_name(path)?)?.folder(path.is_dir()).private(false)
    };
    build(builder, sources, processors(), watch)
}

fn build(builder: Builder, sources: &[Source], threads: usize, watch: &dyn Watch) -> Result<Metainfo> {
    let plan = builder.plan(sources.iter().map(|source| (source.path.clone(), source.size)).collect())?;
    let digested = plan.needs_digest().then(|| &sources[0]);
    let (hashes, digest) = std::thread::scope(|scope| {
        // One processor's work, whatever the number of threads: the whole file in order.
        let digest = digested.map(|source| scope.spawn(|| sha256(source)));
        let hashes = hash(&plan, sources, threads, watch);
        (hashes, digest.map(|thread| thread.join().expect("hashing does not panic")))
    });
    let (hashes, digest) = (hashes?, digest.transpose()?);
    check_unchanged(sources)?;
    plan.finish(&hashes, digest).context("cannot make a torrent of these files")
}

fn hash(plan: &Plan, sources: &[Source], threads: usize, watch: &dyn Watch) -> Result<Vec<PieceHashes>> {
    let files: Vec<PathBuf> = sources.iter().map(|source| source.file.clone()).collect();
    let lengths: Vec<Option<u64>> = sources.iter().map(|source| Some(source.size)).collect();
    let (pieces, sides) = (plan.pieces(), plan.pieces().sides());
    let reading = Reading { pieces, files: &files, lengths: &lengths, sides, threads, watch };
    let all: Vec<u32> = (0..pieces.count()).collect();
    Ok(reading.hash(&all)?.into_iter().flatten().collect())
}

fn sha256(source: &Source) -> Result<[u8; 32]> {
    digest::of_file(&source.file).with_context(|| format!("cannot read {}", source.file.display()))
}
