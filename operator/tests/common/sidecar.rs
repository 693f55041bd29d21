//! A sidecar that does what the test says: it asks the operator, builds torrents, talks to trackers, reports.

use crds::DistributionRevision;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use operator_api::{Completed, Failed, Grant, GrantedFile, Lease, Progress, Retry, Session};
use serde_json::json;
use sha2::{Digest, Sha256};
use torrent::ingest::{PublicKey, SigningKey};
use torrent::manifest::{Entry, Manifest};
use torrent::{Builder, RelPath, Version};
use tracker_api::{REGISTRY_CONTENT_PATH, Registry};

use super::{NAMESPACE, World, parse};

pub struct FakeSidecar {
    pub node: String,
    client: kube::Client,
    http: reqwest::Client,
    url: String,
    trackers: Vec<String>,
    token: String,
    /// With which it signs the hashes of what it reads.
    key: SigningKey,
}

/// What a fetcher made of the origin's bytes.
pub struct Built {
    pub completed: Completed,
    pub metainfo: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl FakeSidecar {
    pub async fn new(world: &World, node: &str, token: &str) -> Self {
        let status = world.classes().get("default").await.unwrap().status.unwrap();
        let operator = status.operator.unwrap();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls_pki_types::pem::PemObject::pem_slice_iter(operator.ca_bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        Self {
            node: node.into(),
            client: world.client.clone(),
            http: super::http(roots),
            url: operator.url,
            trackers: status.trackers.into_iter().map(|tracker| tracker.url).collect(),
            token: token.into(),
            key: SigningKey::from_seed(&Sha256::digest(node).into()),
        }
    }

    /// `POST path`: the status, and the body if it is JSON.
    pub async fn post(&self, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(&body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    pub async fn session(&self) -> Result<Session, u16> {
        let (status, body) = self.post("/v1/session", json!({})).await;
        if status == 200 { Ok(parse(body)) } else { Err(status) }
    }

    pub async fn grant(&self, revision: &str) -> Result<Grant, u16> {
        self.ask(revision, json!({})).await
    }

    /// With its key, so that it may share what it reads.
    pub async fn sharing_grant(&self, revision: &str) -> Result<Grant, u16> {
        self.ask(revision, json!({"key": self.public_key().to_string()})).await
    }

    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    async fn ask(&self, revision: &str, request: serde_json::Value) -> Result<Grant, u16> {
        let (status, body) = self.post(&format!("/v1/grants/{revision}"), request).await;
        if status == 200 { Ok(parse(body)) } else { Err(status) }
    }

    /// Asks until the answer is not "later".
    pub async fn patient_grant(&self, revision: &str) -> Grant {
        self.patiently(revision, json!({})).await
    }

    /// The same with its key.
    pub async fn patient_sharing_grant(&self, revision: &str) -> Grant {
        self.patiently(revision, json!({"key": self.public_key().to_string()})).await
    }

    async fn patiently(&self, revision: &str, request: serde_json::Value) -> Grant {
        for _ in 0..400 {
            match self.ask(revision, request.clone()).await {
                Ok(grant) => return grant,
                Err(503) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                Err(status) => panic!("{} gets {status} for {revision}", self.node),
            }
        }
        panic!("{} never gets a grant for {revision}", self.node);
    }

    pub async fn progress(&self, revision: &str, grant: &str, bytes: u64) -> u16 {
        self.sign_of_life(revision, grant, bytes).await.err().unwrap_or(200)
    }

    pub async fn sign_of_life(&self, revision: &str, grant: &str, bytes: u64) -> Result<Lease, u16> {
        let progress = Progress { grant: grant.into(), bytes, origin_bytes: bytes, worked: bytes };
        let path = format!("/v1/grants/{revision}/progress");
        let (status, body) = self.post(&path, serde_json::to_value(progress).unwrap()).await;
        if status == 200 { Ok(parse(body)) } else { Err(status) }
    }

    /// The registry, as the first tracker has it.
    pub async fn registry(&self) -> Registry {
        let url = format!("{}{REGISTRY_CONTENT_PATH}", self.trackers[0]);
        let answer = self.http.get(url).bearer_auth(self.tracker_token().await).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Tells the trackers under a name of 64 digits how much is left.
    pub async fn announce(&self, name: &str, left: u64) {
        let escaped: String = name.as_bytes()[..40]
            .chunks(2)
            .fold(String::new(), |all, pair| format!("{all}%{}", std::str::from_utf8(pair).unwrap()));
        let token = self.tracker_token().await;
        for tracker in &self.trackers {
            let url = format!(
                "{tracker}/announce?info_hash={escaped}&peer_id={:-<20}&port=6881&uploaded=0&downloaded=0&left={left}&node={}",
                self.node, self.node
            );
            let answer = self.http.get(url).bearer_auth(&token).send().await.unwrap();
            let answer = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
            assert!(!answer.contains("failure"), "{answer}");
        }
    }

    async fn tracker_token(&self) -> String {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = secrets.get("samara-tracker-default").await.unwrap();
        String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
    }

    pub async fn fail(&self, revision: &str, grant: &str, reason: &str, message: &str) -> Result<u64, u16> {
        let (grant, reason, message) = (grant.into(), reason.into(), message.into());
        let failed = Failed { grant, reason, message, accused: Vec::new() };
        let path = format!("/v1/grants/{revision}/failed");
        let (status, body) = self.post(&path, serde_json::to_value(failed).unwrap()).await;
        if status == 200 { Ok(parse::<Retry>(body).after_seconds) } else { Err(status) }
    }

    pub async fn build(&self, grant: &Grant) -> Built {
        let builder = Builder::new(Version::Hybrid, 1 << 20).unwrap();
        let (mut hashes, mut entries, mut total) = (Vec::new(), Vec::new(), 0);
        for file in &grant.files {
            let bytes = self.bytes(grant, file).await;
            let path = RelPath::parse(&file.path).unwrap();
            let mut pieces = builder.file_hasher(grant.files.len());
            pieces.update(&bytes);
            total += bytes.len() as u64;
            entries.push(Entry {
                path: path.clone(),
                size: bytes.len() as u64,
                sha256: Sha256::digest(&bytes).into(),
            });
            hashes.push((path, pieces.finish()));
        }
        let metainfo = builder.build(hashes).unwrap();
        let manifest = Manifest::new(entries).unwrap();
        let completed = Completed {
            grant: grant.id.clone(),
            info_hash_v1: metainfo.info_hash_v1().map(|hash| hash.to_string()),
            info_hash_v2: metainfo.info_hash_v2().map(|hash| hash.to_string()),
            manifest_digest: hex::encode(manifest.digest()),
            bytes: total,
            files: grant.files.len() as u64,
            origin_bytes: total,
        };
        Built { completed, metainfo: metainfo.encode(), manifest: manifest.to_bytes() }
    }

    /// A file's bytes, wherever the grant says that they are.
    pub async fn bytes(&self, grant: &Grant, file: &GrantedFile) -> bytes::Bytes {
        if let Some(text) = &file.text {
            return text.clone().into();
        }
        let mut request = self.http.get(&file.url);
        if let Some(shown) = grant.authorization.as_ref().filter(|shown| file.url.starts_with(&shown.origin))
        {
            request = request.header("authorization", &shown.value);
        }
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        answer.bytes().await.unwrap()
    }

    pub async fn store(&self, revision: &str, built: &Built) {
        let token = self.tracker_token().await;
        let hash = built.completed.info_hash_v2.as_ref().unwrap();
        for tracker in &self.trackers {
            for (path, body) in [
                (format!("/manifests/{}", built.completed.manifest_digest), &built.manifest),
                (format!("/metainfo/{hash}"), &built.metainfo),
            ] {
                let url = format!("{tracker}{path}?revision={revision}");
                for attempt in 0.. {
                    let sent =
                        self.http.put(&url).bearer_auth(&token).body(body.clone()).send().await.unwrap();
                    if sent.status().is_success() {
                        break;
                    }
                    assert!(attempt < 100, "{url}: {}", sent.status());
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }

    pub async fn complete(&self, revision: &str, built: &Built) -> u16 {
        let path = format!("/v1/grants/{revision}/complete");
        self.post(&path, serde_json::to_value(&built.completed).unwrap()).await.0
    }

    pub async fn fetch_and_complete(&self, revision: &str) {
        let grant = self.patient_grant(revision).await;
        let built = self.build(&grant).await;
        self.store(revision, &built).await;
        assert_eq!(self.complete(revision, &built).await, 204);
    }

    /// Says in its NodeDistribution how far it is; beside what it said of other revisions.
    pub async fn report(&self, revision: &str, phase: &str) {
        self.report_entry(revision, Some(json!({"phase": phase}))).await;
    }

    pub async fn report_failure(&self, revision: &str, reason: &str, message: &str) {
        self.report_entry(revision, Some(json!({"phase": "Failed", "reason": reason, "message": message})))
            .await;
    }

    pub async fn drop_entry(&self, revision: &str) {
        self.report_entry(revision, None).await;
    }

    async fn report_entry(&self, revision: &str, entry: Option<serde_json::Value>) {
        let api: Api<crds::NodeDistribution> = Api::all(self.client.clone());
        let spec = json!({
            "apiVersion": "samara.dev/v1alpha1", "kind": "NodeDistribution",
            "metadata": {"name": self.node}, "spec": {"className": "default"}
        });
        api.patch(&self.node, &PatchParams::apply("sidecar"), &Patch::Apply(spec)).await.unwrap();
        let mut object = api.get(&self.node).await.unwrap();
        let mut status = object.status.take().unwrap_or_default();
        status.revisions.retain(|entry| entry.revision != revision);
        if let Some(mut entry) = entry {
            entry["revision"] = json!(revision);
            entry["since"] = json!(jiff::Timestamp::now().to_string());
            status.revisions.push(parse(entry));
        }
        status.revisions.sort_by(|a, b| a.revision.cmp(&b.revision));
        object.status = Some(status);
        api.replace_status(&self.node, &PostParams::default(), &object).await.unwrap();
    }

    /// Does what a sidecar does when a revision is on its way out: waits for the word, then lets go.
    pub async fn let_go_when_told(&self, revision: &str) {
        let api: Api<DistributionRevision> = Api::all(self.client.clone());
        loop {
            match api.get_opt(revision).await.unwrap() {
                Some(found) if !found.spec.policy.deleting => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                _ => break,
            }
        }
        self.drop_entry(revision).await;
    }
}
