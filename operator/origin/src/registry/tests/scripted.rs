//! A registry with a token server that says what it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Digest, Keyring, Platform, Platforms, Reference, Registry, RegistryOptions};
use crate::HostRules;
use crate::tests::server::{Reply, Request, Server};
use crate::tests::{loopback_allowed, quick};

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

type Stored = BTreeMap<String, (String, Vec<u8>)>;

/// What it has, and what it asks for. Paths are below `/v2/team/app/`.
#[derive(Default)]
pub(super) struct Script {
    pub stored: Stored,
    /// The `WWW-Authenticate` of whoever does not show this.
    pub challenge: Option<(String, String)>,
    /// What the token server gives: to whom that shows this (none: to everyone), with this body.
    pub token: Option<(Option<String>, String)>,
    /// Answers that stand before all others.
    pub instead: BTreeMap<String, (u16, Vec<(String, String)>)>,
    /// HEAD tells no digest.
    pub silent: bool,
    /// HEAD is answered with this status.
    pub headless: Option<u16>,
    /// What opens it is good for one request.
    pub fleeting: Option<AtomicUsize>,
}

pub(super) struct Scripted {
    pub server: Server,
    pub script: Arc<Mutex<Script>>,
}

impl Scripted {
    pub async fn start() -> Self {
        let script: Arc<Mutex<Script>> = Arc::default();
        let known = script.clone();
        let server = Server::start(move |request| answer(&known.lock().unwrap(), request)).await;
        Self { server, script }
    }

    pub fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// Stores bytes under their digest and, if it is given, a tag.
    pub fn put(&self, kind: &str, media_type: &str, bytes: &[u8], tag: Option<&str>) -> Value {
        let digest = Digest::of(bytes).to_string();
        let stored = (media_type.to_owned(), bytes.to_vec());
        self.set(|script| {
            script.stored.insert(format!("{kind}/{digest}"), stored.clone());
            if let Some(tag) = tag {
                script.stored.insert(format!("{kind}/{tag}"), stored);
            }
        });
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Stores an image of one platform.
    pub fn put_image(&self, platform: (&str, &str), layers: &[&[u8]], tag: Option<&str>) -> Value {
        let config = json!({"os": platform.0, "architecture": platform.1, "rootfs": {"type": "layers", "diff_ids": []}});
        let config = self.put(
            "blobs",
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
            None,
        );
        let put =
            |bytes: &&[u8]| self.put("blobs", "application/vnd.oci.image.layer.v1.tar+gzip", bytes, None);
        let layers: Vec<Value> = layers.iter().map(put).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        let mut entry = self.put("manifests", OCI_MANIFEST, manifest.to_string().as_bytes(), tag);
        entry["platform"] = json!({"os": platform.0, "architecture": platform.1});
        entry
    }

    pub fn put_index(&self, entries: &[Value], tag: Option<&str>) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        self.put("manifests", OCI_INDEX, index.to_string().as_bytes(), tag)
    }

    pub fn registry(&self, config: Option<&str>) -> Registry {
        self.registry_of("latest", config, &[])
    }

    pub fn registry_of(&self, tag: &str, config: Option<&str>, allow: &[&str]) -> Registry {
        let reference = Reference::parse(&format!("{}/team/app:{tag}", self.server.address)).unwrap();
        let mut keyring = Keyring::default();
        if let Some(config) = config {
            keyring.add_config(config.replace("HERE", &self.server.address.to_string()).as_bytes()).unwrap();
        }
        let mut policy = loopback_allowed();
        policy.allow.extend(allow.iter().map(|rule| (*rule).to_owned()));
        let (logins, plain_http) = (keyring.logins(&reference), HostRules::default());
        Registry::new(reference, RegistryOptions { policy, plain_http, logins, client: quick() }).unwrap()
    }

    /// What was asked for, as `METHOD path`.
    pub fn asked(&self) -> Vec<String> {
        let short = |request: &Request| {
            format!("{} {}", request.method(), request.path().replace("/v2/team/app/", ""))
        };
        self.server.requests().iter().map(short).collect()
    }
}

pub(super) fn all(platforms: &[&str]) -> Platforms {
    Platforms::All(platforms.iter().map(|text| Platform::parse(text).unwrap()).collect())
}

fn answer(script: &Script, request: &Request) -> Reply {
    let path = request.path().replace("/v2/team/app/", "");
    if let Some((status, headers)) = script.instead.get(&path) {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        return Reply::sized(*status, &headers, b"");
    }
    if path.starts_with("/token") {
        return match &script.token {
            Some((who, body)) if who.is_none() || who.as_deref() == request.header("authorization") => {
                Reply::sized(200, &[], body.as_bytes())
            }
            _ => Reply::sized(401, &[], b""),
        };
    }
    let stale =
        || script.fleeting.as_ref().is_some_and(|asked| asked.fetch_add(1, Ordering::Relaxed) % 2 == 0);
    if let Some((challenge, shown)) = &script.challenge
        && (request.header("authorization") != Some(shown) || stale())
    {
        return Reply::sized(401, &[("WWW-Authenticate", challenge)], b"");
    }
    if let Some(status) = script.headless.filter(|_| request.method() == "HEAD") {
        return Reply::sized(status, &[], b"");
    }
    let Some((media_type, bytes)) = script.stored.get(&path) else { return Reply::sized(404, &[], b"") };
    let digest = Digest::of(bytes).to_string();
    let mut headers = vec![("Content-Type", media_type.as_str())];
    if !script.silent {
        headers.push(("Docker-Content-Digest", digest.as_str()));
    }
    Reply::sized(200, &headers, bytes)
}
