//! Which files of a torrent.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use anyhow::Result;
use clap::Args;
use torrent::Metainfo;

use super::End;
use crate::torrent_command::glob;

/// Some files of a torrent.
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// Only files whose path in the torrent matches; `*` matches slashes too; may be given several times
    #[arg(long, value_name = "GLOB")]
    select: Vec<String>,
    /// Only these files, by their number from 0 on, as in `samara torrent show --files`; for example 0,4-6
    #[arg(long, value_name = "RANGES", value_parser = parse_range, value_delimiter = ',')]
    index: Vec<RangeInclusive<usize>>,
}

/// `4` or `4-6`, as in BEP 53.
fn parse_range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is neither the number of a file nor a range of them; example: 0,4-6")),
    }
}

impl SelectArgs {
    /// The option that was given, if any was.
    pub fn given(&self) -> Option<&'static str> {
        let index = (!self.index.is_empty()).then_some("--index");
        index.or((!self.select.is_empty()).then_some("--select"))
    }

    /// The files that either option names, by their index; else those that a magnet link names (BEP 53). `None`: all, since nothing
    /// was named.
    pub fn files(
        &self,
        metainfo: &Metainfo,
        of_link: &[RangeInclusive<u32>],
    ) -> Result<Option<BTreeSet<usize>>> {
        let mut ranges = self.index.clone();
        if self.select.is_empty() && ranges.is_empty() {
            ranges.extend(of_link.iter().map(|range| *range.start() as usize..=*range.end() as usize));
        }
        if self.select.is_empty() && ranges.is_empty() {
            return Ok(None);
        }
        let count = metainfo.files().len();
        if let Some(range) = ranges.iter().find(|range| *range.end() >= count) {
            let why = format!("there is no file {}: the torrent has {count}, counted from 0", range.end());
            return Err(End::Usage(why).into());
        }
        let globs = glob::set(&self.select).map_err(|error| End::Usage(format!("{error:#}")))?;
        let is_selected = |index: &usize| {
            globs.is_match(metainfo.files()[*index].path.as_str())
                || ranges.iter().any(|range| range.contains(index))
        };
        let files: BTreeSet<usize> = (0..count).filter(is_selected).collect();
        if files.is_empty() {
            let why = "no file of the torrent matches: `samara torrent show --files` lists them";
            return Err(End::Usage(why.to_owned()).into());
        }
        Ok(Some(files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_bep_53_writes_them() {
        assert_eq!(parse_range("4"), Ok(4..=4));
        assert_eq!(parse_range("4-6"), Ok(4..=6));
        for wrong in ["", "-", "4-", "-4", "6-4", "a", "99999999999999999999999"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }
}
