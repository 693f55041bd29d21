//! Patterns of paths on the command line.

use anyhow::{Context as _, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};

/// What matches any of these patterns. `*` matches slashes too, as in the tools that people come from.
pub fn set(patterns: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).with_context(|| format!("`{pattern}` is no pattern"))?);
    }
    set.build().context("these patterns are too many")
}
