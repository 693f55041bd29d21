//! Names to addresses, checked: what is handed to the connector is what was looked at, so a name cannot change its mind
//! between the check and the dialling (DNS rebinding).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::guard::Guard;

type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Where names are looked up; tests have one of their own.
pub(crate) trait Lookup: Send + Sync + 'static {
    fn lookup(&self, name: String) -> Found;
}

/// The system's resolver.
pub(crate) struct System;

impl Lookup for System {
    fn lookup(&self, name: String) -> Found {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }
}

/// A name led to an address that is denied. Found again in the sources of reqwest's error.
#[derive(Debug)]
pub(crate) struct DeniedAddress {
    pub(crate) host: String,
    pub(crate) rule: String,
}

impl fmt::Display for DeniedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.host, self.rule)
    }
}

impl Error for DeniedAddress {}

/// reqwest's way to addresses.
pub(crate) struct Guarded {
    pub(crate) guard: Arc<Guard>,
    pub(crate) lookup: Arc<dyn Lookup>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, found) = (Arc::clone(&self.guard), self.lookup.lookup(name.as_str().to_owned()));
        Box::pin(async move {
            let addresses = found.await?;
            // One bad address among good ones is denied too: which one gets dialled is chance.
            for address in &addresses {
                if let Some(rule) = guard.denial(Some(name.as_str()), address.ip()) {
                    let host = format!("{} ({})", name.as_str(), address.ip());
                    return Err(DeniedAddress { host, rule }.into());
                }
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
