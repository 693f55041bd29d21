//! From what is typed to a torrent, or to where one is to be looked for.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use operator_api::OriginPolicy;
use origin::{Options, Origin, OriginError};
use torrent::{Limits, Magnet, Metainfo};

use super::End;
use crate::torrent_command::read_metainfo;

/// What was typed.
pub enum Resolved {
    /// All of a torrent.
    Torrent(Box<Metainfo>),
    /// Its infohash, and where to ask.
    Link(Box<Magnet>),
}

/// The torrent that a file, `-` for standard input, or an http(s) URL holds, or a magnet link.
pub async fn resolve(what: &str) -> Result<Resolved> {
    if what.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:")) {
        let link = Magnet::parse(what).map_err(|error| End::Usage(error.to_string()))?;
        return Ok(Resolved::Link(Box::new(link)));
    }
    torrent(what).await.map(|metainfo| Resolved::Torrent(Box::new(metainfo)))
}

async fn torrent(what: &str) -> Result<Metainfo> {
    if is_url(what) {
        return download(what).await;
    }
    let path = Path::new(what).to_owned();
    tokio::task::spawn_blocking(move || read_metainfo(&path)).await?
}

fn is_url(what: &str) -> bool {
    let scheme = what.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// A .torrent from a web server, of at most as many bytes as a local one.
async fn download(url: &str) -> Result<Metainfo> {
    // Whoever types a URL may read it from wherever it is: there is no one else's network to guard.
    let everywhere =
        OriginPolicy { allow: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()], deny: Vec::new() };
    let client = Origin::new(&everywhere, Options::default())?;
    let bytes = client.get_small(url, Limits::OWN.bencode.bytes as u64).await.map_err(plainly)?;
    Metainfo::parse(&bytes, &Limits::OWN)
        .with_context(|| format!("{} is not a usable torrent", origin::redact(url)))
}

/// Without the advice that is for clusters.
fn plainly(error: OriginError) -> anyhow::Error {
    match error {
        OriginError::Status { url, status, .. } => anyhow!("{url} answered {status}"),
        OriginError::Unreachable { url, cause } => anyhow!("{url} cannot be read: {cause}"),
        OriginError::TooLarge { url, cap } => {
            anyhow!("{url} is longer than {cap} bytes, which no .torrent has to be")
        }
        other => other.into(),
    }
}
