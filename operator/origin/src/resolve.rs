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
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) guard: Arc<Guard>,
    pub(crate) lookup: Arc<dyn Lookup>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// No addresses.
type NoWay = Box<dyn Error + Send + Sync>;

impl Guarded {
    /// The addresses of a name, if every one of them may be dialled.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, NoWay> {
        let addresses = self.lookup.lookup(name.to_owned()).await?;
        // One bad address among good ones is denied too: which one gets dialled is chance.
        for address in &addresses {
            if let Some(rule) = self.guard.denial(Some(name), address.ip()) {
                let host = format!("{name} ({})", address.ip());
                return Err(DeniedAddress { host, rule }.into());
            }
        }
        Ok(addresses)
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses: Addrs = Box::new(this.addresses(name.as_str()).await?.into_iter());
            Ok(addresses)
        })
    }
}
