//! The measure of all things: one plain GET of the same bytes. It also says which bytes are right.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crds::Distribution;
use operator_api::OriginPolicy;
use origin::{Options, Origin, ReadRange, Validator};
use sha2::{Digest as _, Sha256};

/// What the origin holds.
#[derive(Debug)]
pub struct Expected {
    /// SHA-256 of each file, by its path in the dataset.
    pub files: BTreeMap<String, [u8; 32]>,
    /// Payload bytes.
    pub bytes: u64,
    /// How long it took to read them, one file after the other over one connection.
    pub time: Duration,
}

/// Reads everything once.
pub async fn read(distribution: &Distribution) -> Result<Expected> {
    let policy = OriginPolicy { allow: vec!["127.0.0.0/8".to_owned()], deny: Vec::new() };
    let origin = Origin::new(&policy, Options::default())?;
    let resolved =
        operator::resolve::resolve(&origin, &distribution.spec).await.context("cannot resolve the source")?;
    let start = Instant::now();
    let mut files = BTreeMap::new();
    for file in resolved.files.iter() {
        let range = ReadRange { from: 0, until: None, validator: Validator::from(file) };
        let mut body =
            origin.read(&file.url, range).await.with_context(|| format!("cannot read {}", file.path))?;
        let mut hasher = Sha256::new();
        while let Some(chunk) = body.chunk().await.with_context(|| format!("cannot read {}", file.path))? {
            hasher.update(&chunk);
        }
        files.insert(file.path.clone(), hasher.finalize().into());
    }
    Ok(Expected { files, bytes: resolved.bytes, time: start.elapsed() })
}
