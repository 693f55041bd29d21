//! What an origin may try, by the number of the threat, against real sockets on loopback.

mod addresses;
mod answers;
mod redirects;
pub(crate) mod server;
mod transport;
mod urls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use operator_api::OriginPolicy;

use crate::resolve::Lookup;
use crate::{Options, Origin, OriginError, ReadRange, Timeouts, Validator, tls};

/// A class that lets its fetchers read from this machine.
pub(crate) fn loopback_allowed() -> OriginPolicy {
    OriginPolicy { allow: vec!["127.0.0.0/8".to_owned()], deny: Vec::new() }
}

pub(crate) fn quick() -> Options {
    let timeouts = Timeouts {
        connect: Duration::from_secs(2),
        idle: Duration::from_secs(2),
        slow: Duration::from_millis(700),
    };
    Options { timeouts, ..Options::default() }
}

fn origin() -> Origin {
    Origin::new(&loopback_allowed(), quick()).expect("the rules parse")
}

fn origin_with(policy: &OriginPolicy, lookup: Arc<dyn Lookup>) -> Origin {
    Origin::build(policy, quick(), lookup, tls::public_roots()).expect("the rules parse")
}

/// Answers every name with the next of the given lists; the last one stays.
struct Scripted(Mutex<Vec<Vec<&'static str>>>);

impl Scripted {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(answers.iter().map(|list| list.to_vec()).collect())))
    }
}

impl Lookup for Scripted {
    fn lookup(
        &self,
        _name: String,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<std::net::SocketAddr>>> + Send>> {
        let mut answers = self.0.lock().unwrap();
        let next = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move {
            Ok(next.iter().map(|text| (text.parse::<std::net::IpAddr>().unwrap(), 0).into()).collect())
        })
    }
}

fn whole(size: u64) -> ReadRange {
    ReadRange { from: 0, until: None, validator: Validator { size, etag: None, last_modified: None } }
}

fn tagged(from: u64, size: u64, etag: &str) -> ReadRange {
    ReadRange {
        from,
        until: None,
        validator: Validator { size, etag: Some(etag.to_owned()), last_modified: None },
    }
}

async fn drain(origin: &Origin, url: &str, range: ReadRange) -> Result<Vec<u8>, OriginError> {
    let mut body = origin.read(url, range).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
