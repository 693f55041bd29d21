//! One hosts file as text: our block put in before all other hosts, and taken out again. No I/O.
//!
//! Whole lines are put in and taken out, so that what was there before comes back byte for byte. The parser judges the result.

use toml_edit::DocumentMut;

/// Longer files are not touched: those that people write have some hundred bytes.
pub(crate) const MAX_FILE: usize = 64 << 10;

/// Lines that look like tables and are tried as the first of them; each try parses the file.
const MAX_TRIES: usize = 64;

const BEGIN: &str = "# >>> samara: the image mirror of this node; the uninstall takes these lines out";
const END: &str = "# <<< samara";
/// How long the runtime waits for a connection on loopback. Older containerds pass over it.
const DIAL_TIMEOUT: &str = "200ms";

/// The mirror as a runtime is to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    url: String,
}

impl Block {
    /// The mirror on this port of 127.0.0.1.
    pub fn on_port(port: u16) -> Self {
        Self { url: format!("http://127.0.0.1:{port}") }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn lines(&self, made: Made) -> String {
        format!(
            "{BEGIN}{}\n[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"{DIAL_TIMEOUT}\"\n{END}\n",
            made.suffix(),
            self.url
        )
    }
}

/// What stood there before the block, which is what it leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A file.
    Lines,
    /// A file whose last line had no end. It gets one, which goes with the block.
    LineEnd,
    /// A folder without a file.
    File,
    /// Nothing.
    Folder,
}

impl Made {
    const ALL: [Self; 4] = [Self::Lines, Self::LineEnd, Self::File, Self::Folder];

    fn suffix(self) -> &'static str {
        match self {
            Self::Lines => "",
            Self::LineEnd => ", and the line end before them",
            Self::File => ", and this file",
            Self::Folder => ", and this folder",
        }
    }
}

/// Why a hosts file stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The runtime cannot read it either, and ignores all mirrors in it.
    #[error("is no TOML ({0}); the runtime ignores it too: mend it")]
    Unparsable(String),
    /// Longer than such a file is.
    #[error("has {0} bytes; files of more than {MAX_FILE} are left alone")]
    TooLong(usize),
    /// Our lines are there in part.
    #[error("has only a part of the lines between `{BEGIN}` and `{END}`: take them out by hand")]
    Damaged,
    /// The block would not come first, or stands there already without our marks.
    #[error(
        "leaves no place before its other hosts (they are written as inline tables or dotted keys, or name the mirror already): \
         write them as [host.\"...\"] tables"
    )]
    NoPlace,
}

/// Our lines in a text.
struct Ours {
    lines: std::ops::Range<usize>,
    made: Made,
}

/// `text` with `block` as its first host, once, whatever port it was on before. `made` says what was there before; lines that are there
/// already have said it.
pub fn add(text: &str, block: &Block, made: Made) -> Result<String, TextError> {
    let ours = find(text)?;
    let made = ours.as_ref().map_or(made, |ours| ours.made);
    let text = without(text, ours);
    parse(&text)?;
    let made = if made == Made::LineEnd { Made::Lines } else { made };
    places(&text)
        .into_iter()
        .map(|at| insert(&text, at, block, made))
        .find(|candidate| is_first(candidate, block))
        .ok_or(TextError::NoPlace)
}

/// `text` without our block, and what was there before it; none if it has no block.
pub fn remove(text: &str) -> Result<Option<(String, Made)>, TextError> {
    Ok(find(text)?.map(|ours| {
        let made = ours.made;
        (without(text, Some(ours)), made)
    }))
}

/// `text` as TOML, or why it is none.
pub(crate) fn parse(text: &str) -> Result<DocumentMut, TextError> {
    if text.len() > MAX_FILE {
        return Err(TextError::TooLong(text.len()));
    }
    text.parse().map_err(|error: toml_edit::TomlError| {
        TextError::Unparsable(error.message().lines().next().unwrap_or_default().to_owned())
    })
}

fn find(text: &str) -> Result<Option<Ours>, TextError> {
    if text.len() > MAX_FILE {
        return Err(TextError::TooLong(text.len()));
    }
    let (mut begin, mut found) = (None, None);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let made = line.strip_suffix('\n').and_then(|line| line.strip_prefix(BEGIN));
        if let Some(suffix) = made {
            let made = Made::ALL.into_iter().find(|made| made.suffix() == suffix);
            if begin.replace((at, made.ok_or(TextError::Damaged)?)).is_some() {
                return Err(TextError::Damaged);
            }
        } else if line.trim_end() == END {
            let (start, made) = begin.take().ok_or(TextError::Damaged)?;
            if found.replace(Ours { lines: start..end, made }).is_some() {
                return Err(TextError::Damaged);
            }
        }
        at = end;
    }
    if begin.is_some() { Err(TextError::Damaged) } else { Ok(found) }
}

fn without(text: &str, ours: Option<Ours>) -> String {
    let Some(Ours { lines, made }) = ours else { return text.to_owned() };
    let mut before = &text[..lines.start];
    if made == Made::LineEnd {
        before = before.strip_suffix('\n').unwrap_or(before);
    }
    format!("{before}{}", &text[lines.end..])
}

/// Where the block may go, the best first: before the comment of the first table, before that table, at the end. A line that looks like
/// a table but is part of a string is found out by [`is_first`].
fn places(text: &str) -> Vec<usize> {
    let mut places = Vec::new();
    // Where the comment lines begin that end at the current line.
    let (mut at, mut comment) = (0, 0);
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        if start.starts_with('[') && places.len() < 2 * MAX_TRIES {
            places.extend([comment, at]);
        }
        at += line.len();
        if !start.starts_with('#') {
            comment = at;
        }
    }
    places.push(text.len());
    places
}

fn insert(text: &str, at: usize, block: &Block, made: Made) -> String {
    let (before, after) = text.split_at(at);
    if before.is_empty() || before.ends_with('\n') {
        format!("{before}{}{after}", block.lines(made))
    } else {
        format!("{before}\n{}{after}", block.lines(Made::LineEnd))
    }
}

/// Whether `text` is TOML in which the block is the first host and has nothing in it but its own two lines.
fn is_first(text: &str, block: &Block) -> bool {
    let Ok(document) = text.parse::<DocumentMut>() else { return false };
    let Some(hosts) = document.get("host").and_then(|hosts| hosts.as_table_like()) else { return false };
    let Some((name, first)) = hosts.iter().next() else { return false };
    let is_ours = |table: &dyn toml_edit::TableLike| {
        table.len() == 2 && table.contains_key("capabilities") && table.contains_key("dial_timeout")
    };
    name == block.url && first.as_table_like().is_some_and(is_ours)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
