//! What a .torrent says outside `info`: none of it enters an infohash.

use std::collections::BTreeMap;

use super::error::MetainfoError;
use crate::bencode::{Selected, Value, Writer};

const ANNOUNCE: &str = "announce";
const ANNOUNCE_LIST: &str = "announce-list";
const URL_LIST: &str = "url-list";
const HTTP_SEEDS: &str = "httpseeds";
const COMMENT: &str = "comment";
const CREATED_BY: &str = "created by";
const CREATION_DATE: &str = "creation date";

/// Keys outside `info`, and URLs in one of them, that are read: in memory each is many times as large as in the file.
const MAX_KEYS: usize = 1_000;
const MAX_URLS: usize = 10_000;

/// The entries beside `info` and `piece layers`. They are kept as they were read, unknown ones too: a .torrent that is read
/// and written again is the same file, and an edit changes its own key only.
#[derive(Debug, Clone, Default)]
pub(super) struct Outer {
    /// Bencoded values by key.
    raw: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub trackers: Vec<Vec<String>>,
    pub web_seeds: Vec<String>,
    pub http_seeds: Vec<String>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    pub creation_date: Option<i64>,
}

impl Outer {
    /// `own` names the keys that somebody else takes care of.
    pub fn read(top: &Selected<'_>, own: &[&[u8]]) -> Result<Self, MetainfoError> {
        let others = || top.dict().raw_entries().filter(|(key, _)| !own.contains(key));
        if others().nth(MAX_KEYS).is_some() {
            return Err(MetainfoError::TooMany { what: "keys outside info", limit: MAX_KEYS });
        }
        Ok(Self {
            raw: others().map(|(key, value)| (key.into(), value.into())).collect(),
            trackers: trackers(top)?,
            web_seeds: top.get(URL_LIST).map_or(Ok(Vec::new()), |value| urls(value, URL_LIST))?,
            http_seeds: top.get(HTTP_SEEDS).map_or(Ok(Vec::new()), |value| urls(value, HTTP_SEEDS))?,
            comment: top.get(COMMENT).and_then(lossy),
            created_by: top.get(CREATED_BY).and_then(lossy),
            creation_date: top.get(CREATION_DATE).and_then(|date| date.as_int()),
        })
    }

    /// Bencoded values by key, ascending.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.raw.iter().map(|(key, value)| (&**key, &**value))
    }

    pub fn set_trackers(&mut self, mut tiers: Vec<Vec<String>>) {
        tiers.retain(|tier| !tier.is_empty());
        let first = tiers.iter().flatten().next();
        self.set(ANNOUNCE, first.map(|url| encoded(|value| value.bytes(url))));
        let several = tiers.iter().flatten().nth(1).is_some();
        let list = |list: &mut Writer| tiers.iter().for_each(|tier| list.list(|urls| write_all(urls, tier)));
        self.set(ANNOUNCE_LIST, several.then(|| encoded(|value| value.list(list))));
        self.trackers = tiers;
    }

    pub fn set_web_seeds(&mut self, seeds: Vec<String>) {
        let list = (!seeds.is_empty()).then(|| encoded(|value| value.list(|urls| write_all(urls, &seeds))));
        self.set(URL_LIST, list);
        self.web_seeds = seeds;
    }

    pub fn set_http_seeds(&mut self, seeds: Vec<String>) {
        let list = (!seeds.is_empty()).then(|| encoded(|value| value.list(|urls| write_all(urls, &seeds))));
        self.set(HTTP_SEEDS, list);
        self.http_seeds = seeds;
    }

    pub fn set_comment(&mut self, comment: Option<String>) {
        self.set(COMMENT, comment.as_ref().map(|text| encoded(|value| value.bytes(text))));
        self.comment = comment;
    }

    pub fn set_created_by(&mut self, program: Option<String>) {
        self.set(CREATED_BY, program.as_ref().map(|text| encoded(|value| value.bytes(text))));
        self.created_by = program;
    }

    pub fn set_creation_date(&mut self, date: Option<i64>) {
        self.set(CREATION_DATE, date.map(|seconds| encoded(|value| value.int(seconds))));
        self.creation_date = date;
    }

    fn set(&mut self, key: &str, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.raw.insert(key.as_bytes().into(), value.into()),
            None => self.raw.remove(key.as_bytes()),
        };
    }
}

fn encoded(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes()
}

fn write_all(list: &mut Writer, texts: &[String]) {
    for text in texts {
        list.bytes(text);
    }
}

/// Text of old clients may be in any encoding: shown as far as it can be, kept as it is.
fn lossy(value: Value<'_>) -> Option<String> {
    value.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// `announce-list` in tiers (BEP 12), else `announce` alone.
fn trackers(top: &Selected<'_>) -> Result<Vec<Vec<String>>, MetainfoError> {
    let (mut tiers, mut count) = (Vec::new(), 0);
    if let Some(list) = top.get(ANNOUNCE_LIST) {
        let invalid = MetainfoError::Invalid { key: ANNOUNCE_LIST };
        for tier in list.as_list().ok_or_else(|| invalid.clone())? {
            let tier = tier.as_list().ok_or_else(|| invalid.clone())?;
            count += 1 + tier.iter().take(MAX_URLS).count();
            check_urls(count)?;
            let tier: Vec<String> =
                tier.iter().map(|url| text(url, ANNOUNCE_LIST)).collect::<Result<_, _>>()?;
            if !tier.is_empty() {
                tiers.push(tier);
            }
        }
    }
    if let Some(url) = top.get(ANNOUNCE).filter(|_| tiers.is_empty()) {
        let url = text(url, ANNOUNCE)?;
        if !url.is_empty() {
            tiers.push(vec![url]);
        }
    }
    Ok(tiers)
}

/// One URL or a list of them (BEP 17, 19). Some programs write an empty one where they mean none.
fn urls(value: Value<'_>, key: &'static str) -> Result<Vec<String>, MetainfoError> {
    let urls = match value {
        Value::Bytes(_) => vec![text(value, key)?],
        Value::List(list) => {
            check_urls(list.iter().take(MAX_URLS + 1).count())?;
            list.iter().map(|url| text(url, key)).collect::<Result<_, _>>()?
        }
        _ => return Err(MetainfoError::Invalid { key }),
    };
    Ok(urls.into_iter().filter(|url: &String| !url.is_empty()).collect())
}

fn check_urls(count: usize) -> Result<(), MetainfoError> {
    if count > MAX_URLS { Err(MetainfoError::TooMany { what: "URLs", limit: MAX_URLS }) } else { Ok(()) }
}

fn text(url: Value<'_>, key: &'static str) -> Result<String, MetainfoError> {
    url.as_str().map(str::to_owned).ok_or(MetainfoError::Invalid { key })
}
