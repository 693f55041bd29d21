//! Certificates and kubeconfigs of a cluster: one CA for servers and clients alike.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::slot::Slot;

/// The cluster's certificate authority, read from or written to the slot's folder, so that a later process can add nodes.
pub struct Pki<'a> {
    slot: &'a Slot,
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl<'a> Pki<'a> {
    /// Makes the CA and the service-account key.
    pub fn create(slot: &'a Slot) -> Result<Self> {
        let key = KeyPair::generate()?;
        let ca = ca_params()?.self_signed(&key)?.pem();
        slot.write("pki/ca.crt".as_ref(), &ca)?;
        slot.write("pki/ca.key".as_ref(), key.serialize_pem())?;
        let accounts = KeyPair::generate()?;
        slot.write("pki/sa.key".as_ref(), accounts.serialize_pem())?;
        slot.write("pki/sa.pub".as_ref(), accounts.public_key_pem())?;
        Self::open(slot)
    }

    /// The CA that [`Pki::create`] made.
    pub fn open(slot: &'a Slot) -> Result<Self> {
        let read = |name: &str| {
            let path = slot.dir.join("pki").join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let issuer = Issuer::new(ca_params()?, KeyPair::from_pem(&read("ca.key")?)?);
        Ok(Self { slot, issuer, ca: read("ca.crt")? })
    }

    /// Writes `pki/<name>.crt` and `.key`: a certificate for `user` in `groups`, and for `sans` if it is to serve.
    pub fn issue(&self, name: &str, user: &str, groups: &[&str], sans: &[&str]) -> Result<(String, String)> {
        let sans: Vec<String> = sans.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(sans)?;
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let (certificate, key) = (params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem());
        self.slot.write(format!("pki/{name}.crt").as_ref(), &certificate)?;
        self.slot.write(format!("pki/{name}.key").as_ref(), &key)?;
        Ok((certificate, key))
    }

    /// Writes `<name>.kubeconfig` for `user` in `groups` and answers its path.
    pub fn kubeconfig(&self, name: &str, user: &str, groups: &[&str]) -> Result<PathBuf> {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let (certificate, key) = self.issue(name, user, groups, &[])?;
        let context = self.slot.prefix();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": context,
            "clusters": [{ "name": context, "cluster": {
                "server": format!("https://{}:6443", self.slot.control_plane()),
                "certificate-authority-data": encode(&self.ca),
            }}],
            "users": [{ "name": user, "user": {
                "client-certificate-data": encode(&certificate), "client-key-data": encode(&key),
            }}],
            "contexts": [{ "name": context, "context": { "cluster": context, "user": user } }],
        });
        let file = format!("{name}.kubeconfig");
        self.slot.write(file.as_ref(), serde_json::to_vec_pretty(&config)?)?;
        Ok(self.slot.dir.join(file))
    }
}

fn ca_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "samara-e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}
