//! From what is typed to a torrent, or to where one is to be looked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use operator_api::OriginPolicy;
use origin::{Options, Origin, OriginError, Pace, ReadRange, Validator};
use percent_encoding::percent_decode_str;
use torrent::{Limits, Magnet, Metainfo, RelPath};
use url::Url;

use super::End;
use crate::output;
use crate::torrent_command::read_metainfo;

/// So many bytes tell a .torrent from other files.
const PEEK: u64 = 64;
/// A server that sends all or nothing is asked for files up to this size to see what they are.
const PEEK_WHOLE: u64 = 1 << 20;

/// A busy server is asked so often at most, and not sooner again than this.
const MOST_ASKED: u32 = 6;
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// What was typed.
pub enum Resolved {
    /// All of a torrent.
    Torrent(Box<Metainfo>),
    /// Its infohash, and where to ask.
    Link(Box<Magnet>),
    /// A file that is no torrent, at a web server.
    File(Box<Remote>),
}

/// A file at a web server, as it is now.
#[derive(Debug)]
pub struct Remote {
    /// Where it is. May carry a signature in its query.
    pub url: String,
    /// What it is called: the last part of the URL's path.
    pub name: RelPath,
    /// What it is known by.
    pub validator: Validator,
    /// Whether the server says that it gives parts of it.
    pub parts: bool,
    /// Reads it.
    pub client: Origin,
    /// How fast that may be.
    pub pace: Arc<Pace>,
}

/// The torrent that a file, `-` for standard input, or an http(s) URL holds, or a magnet link; or the file that a URL names.
pub async fn resolve(what: &str) -> Result<Resolved> {
    if what.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:")) {
        let link = Magnet::parse(what).map_err(|error| End::Usage(error.to_string()))?;
        return Ok(Resolved::Link(Box::new(link)));
    }
    if is_url(what) {
        return remote(what).await;
    }
    let path = Path::new(what).to_owned();
    let metainfo = tokio::task::spawn_blocking(move || read_metainfo(&path)).await??;
    Ok(Resolved::Torrent(Box::new(metainfo)))
}

fn is_url(what: &str) -> bool {
    let scheme = what.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

async fn remote(url: &str) -> Result<Resolved> {
    // Whoever types a URL may read it from wherever it is: there is no one else's network to guard.
    let everywhere =
        OriginPolicy { allow: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()], deny: Vec::new() };
    let pace = Arc::new(Pace::default());
    let client = Origin::new(&everywhere, Options { pace: pace.clone(), ..Options::default() })?;
    let parsed = Url::parse(url).map_err(|error| End::Usage(format!("{}: {error}", origin::redact(url))))?;
    if parsed.path().to_ascii_lowercase().ends_with(".torrent") {
        return download(&client, url).await;
    }
    let found = patiently(async || client.probe(url).await).await?;
    // Without a length it can be a torrent only, which is short.
    let Some(size) = found.size else { return without_length(&client, url).await };
    let validator = Validator { size, etag: found.etag, last_modified: found.last_modified };
    if is_torrent(&client, url, &validator, found.accepts_ranges).await? {
        return download(&client, url).await;
    }
    let name = name(&parsed)?;
    Ok(Resolved::File(Box::new(Remote {
        url: url.to_owned(),
        name,
        validator,
        parts: found.accepts_ranges,
        client,
        pace,
    })))
}

/// The last part of a URL's path.
fn name(url: &Url) -> Result<RelPath> {
    let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let decoded = percent_decode_str(last).decode_utf8().ok();
    let name = decoded.and_then(|name| RelPath::from_components([name.as_bytes()]).ok());
    let shown = origin::redact(url.as_str());
    name.ok_or_else(|| End::Usage(format!("{shown} does not end in the name of a file")).into())
}

/// Whether a file begins as a torrent does.
async fn is_torrent(client: &Origin, url: &str, validator: &Validator, parts: bool) -> Result<bool> {
    let size = validator.size;
    if size == 0 || size > Limits::OWN.bencode.bytes as u64 || !(parts || size <= PEEK_WHOLE) {
        return Ok(false);
    }
    let until = parts.then_some(PEEK.min(size));
    let range = ReadRange { from: 0, until, validator: validator.clone() };
    let mut body = patiently(async || client.read(url, range.clone()).await).await?;
    let first = body.chunk().await.map_err(plainly)?.unwrap_or_default();
    Ok(begins_as_torrent(&first))
}

/// A dictionary whose first key is a word: `d8:announce...`, `d4:info...`.
fn begins_as_torrent(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"d") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=2).contains(&digits)
        && rest.get(digits) == Some(&b':')
        && rest.get(digits + 1).is_some_and(u8::is_ascii_lowercase)
}

/// Asks a server that is busy again when it says: machines that begin together are many at once.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, OriginError>) -> Result<T> {
    let mut asked = 1;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let again = error.retry_after().filter(|_| error.is_transient() && asked < MOST_ASKED);
        let Some(pause) = again.map(|pause| pause.max(LEAST_PAUSE)) else { return Err(plainly(error)) };
        output::say(&format!("{:#}; it is asked again in {} s", plainly(error), pause.as_secs()));
        tokio::time::sleep(pause).await;
        asked += 1;
    }
}

/// A server that does not say how long a file is can have a .torrent only.
async fn without_length(client: &Origin, url: &str) -> Result<Resolved> {
    let read = client.get_small(url, Limits::OWN.bencode.bytes as u64).await;
    match read {
        Ok(bytes) if begins_as_torrent(&bytes) => parse(&bytes, url),
        Ok(_) | Err(OriginError::TooLarge { .. }) => bail!(
            "{} is no torrent, and the server does not say how long it is (Content-Length), which has to be known of a file that is shared while it is read",
            origin::redact(url)
        ),
        Err(error) => Err(plainly(error)),
    }
}

/// A .torrent from a web server, of at most as many bytes as a local one.
async fn download(client: &Origin, url: &str) -> Result<Resolved> {
    let most = Limits::OWN.bencode.bytes as u64;
    parse(&patiently(async || client.get_small(url, most).await).await?, url)
}

fn parse(bytes: &[u8], url: &str) -> Result<Resolved> {
    let metainfo = Metainfo::parse(bytes, &Limits::OWN)
        .with_context(|| format!("{} is not a usable torrent", origin::redact(url)))?;
    Ok(Resolved::Torrent(Box::new(metainfo)))
}

/// Without the advice that is for clusters.
pub fn plainly(error: OriginError) -> anyhow::Error {
    match error {
        OriginError::Status { url, status, .. } => anyhow!("{url} answered {status}"),
        OriginError::Unreachable { url, cause } => anyhow!("{url} cannot be read: {cause}"),
        OriginError::Changed { url, what } => {
            anyhow!("{url} has changed while it was read: {what}; the same command reads what it is now")
        }
        OriginError::TooLarge { url, cap } => {
            anyhow!("{url} is longer than {cap} bytes, which no .torrent has to be")
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_known_by_its_first_bytes() {
        for (bytes, expected) in [
            (&b"d8:announce35:http"[..], true),
            (b"d13:announce-listl", true),
            (b"d4:infod6:lengthi1e", true),
            (b"d", false),
            (b"debian", false),
            (b"d123:x", false),
            (b"d4:\x00\x01", false),
            (b"GGUF", false),
        ] {
            assert_eq!(begins_as_torrent(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_file_is_called_as_its_url_ends() {
        let named = |url: &str| name(&Url::parse(url).unwrap()).ok().map(|name| name.as_str().to_owned());
        assert_eq!(named("http://h/a/model.gguf?sig=1#x").as_deref(), Some("model.gguf"));
        assert_eq!(named("http://h/a%20b").as_deref(), Some("a b"));
        for url in ["http://h/", "http://h/a/", "http://h/a/%2e%2e", "http://h/a%2fb", "http://h/%ff"] {
            assert_eq!(named(url), None, "{url}");
        }
    }
}
