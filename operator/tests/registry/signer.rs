//! Who signs the tokens that a docker-registry takes.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use serde_json::{Value, json};

/// Signs as the issuer `iss`, for the service `reg`.
pub struct Signer {
    key: KeyPair,
    /// Its certificate: what the registry has as `rootcertbundle`.
    pub pem: String,
    certificate: String,
}

impl Signer {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let (pem, certificate) = (certificate.pem(), STANDARD.encode(certificate.der()));
        Self { key, pem, certificate }
    }

    /// A JWT as docker-registry checks it: ES256, the certificate beside it.
    pub fn token(&self, repository: &str, actions: &str, seconds: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let actions: Vec<&str> = actions.split(',').collect();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": "iss", "sub": "me", "aud": "reg", "nbf": now - 10, "iat": now, "exp": now + seconds,
            "jti": hex::encode(rand::random::<[u8; 8]>()),
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = raw(&self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A P-256 signature as two numbers of 32 bytes (RFC 7518 section 3.4), from the DER that it comes in.
fn raw(der: &[u8]) -> Vec<u8> {
    let (mut at, mut raw) = (2, Vec::new());
    for _ in 0..2 {
        let length = usize::from(der[at + 1]);
        let number = &der[at + 2..at + 2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        raw.extend(vec![0; 32 - number.len()]);
        raw.extend(number);
        at += 2 + length;
    }
    raw
}
