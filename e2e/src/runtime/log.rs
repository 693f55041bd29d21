//! Every request that was made, in order, and the comparison with what should have been.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};

/// Requests of all servers of a scenario. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<(String, String)>>>);

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    /// Who was asked: `mirror` or `upstream`.
    pub role: &'a str,
    /// GET or HEAD.
    pub method: &'a str,
    /// What was asked for: `tag`, `index`, `layer0`, or else the path.
    pub object: &'a str,
    /// The `Range` header.
    pub range: Option<&'a str>,
    /// Its `Authorization` header.
    pub shown: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
}

impl Log {
    /// Adds one.
    pub fn add(&self, request: &Request<'_>) {
        let range = request.range.map(|range| format!(" {range}")).unwrap_or_default();
        let shown = match request.shown.map(|shown| shown.split(' ').next().unwrap_or_default()) {
            None => "",
            Some("Bearer") => " with a token",
            Some("Basic") => " with a password",
            Some(_) => " with something else",
        };
        let text = format!("{} {}{range} {}{shown}", request.role, request.method, request.status);
        self.lock().push((request.object.to_owned(), text));
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// For each object what was asked of whom, in order. Objects are asked for at the same time, so there is no order between them.
    pub fn by_object(&self) -> BTreeMap<String, Vec<String>> {
        let mut objects: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (object, request) in self.lock().iter() {
            objects.entry(object.clone()).or_default().push(request.clone());
        }
        objects
    }

    /// Fails unless exactly these requests were made: object, and what was asked of whom, with commas between.
    pub fn expect(&self, expected: &[(&str, &str)]) -> Result<()> {
        let found: BTreeMap<_, _> = self.by_object().into_iter().map(|(k, v)| (k, v.join(", "))).collect();
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(object, requests)| ((*object).into(), (*requests).into())).collect();
        if found != expected {
            bail!("requests were\n{found:#?}\nand not\n{expected:#?}");
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What should have been asked: for every object of an image the same, but for some.
pub fn all_but<'a>(same: &'a str, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let tag = if same == MIRROR { "mirror HEAD 200" } else { "upstream HEAD 200" };
    let objects = ["index", "manifest", "config", "layer0", "layer1", "layer2"].map(|object| (object, same));
    let mut expected: BTreeMap<_, _> = objects.into_iter().chain([("tag", tag)]).collect();
    expected.extend(others.iter().copied());
    expected.into_iter().collect()
}

/// From the mirror, at the first request.
pub const MIRROR: &str = "mirror GET 200";
