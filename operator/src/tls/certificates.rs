//! Making certificates. The CA outlives many certificates; each is renewed when half of its life is over, and never before.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use torrent::ingest::SigningKey;

/// How long the CA lives.
const CA_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);
/// How long the API's certificate lives.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Certificates begin so long before they are made: clocks differ.
const EARLIER: SignedDuration = SignedDuration::from_hours(24);
/// So that the ingest key is the key of nothing else.
const INGEST_DOMAIN: &[u8] = b"samara ingest key 1\0";

/// Why certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// They cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// They cannot be read.
    #[error("a certificate or key cannot be read: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// They do not fit together.
    #[error("a certificate or key cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

/// What cannot be read off PEM without a parser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Made {
    /// When the CA was made.
    pub ca_at: Timestamp,
    /// When the certificate was made.
    pub at: Timestamp,
    /// For which names.
    pub names: Vec<String>,
}

/// A CA, and the certificate that it signed; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The CA's certificate; after a change of CA, the one before too.
    pub ca: String,
    /// Its key.
    pub ca_key: String,
    /// The certificate of the API.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// When and for what they were made.
    pub made: Made,
}

/// Keys are not for logs.
impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Bundle {
    /// What should be stored in place of `stored`; none if that is good for now.
    pub fn renewed(
        stored: Option<&Self>,
        names: &[String],
        now: Timestamp,
    ) -> Result<Option<Self>, CertificateError> {
        let Some(stored) = stored else { return Self::new(names, now).map(Some) };
        if past_half(stored.made.ca_at, CA_LIFE, now) {
            let mut new = Self::new(names, now)?;
            new.ca = format!("{}{}", new.ca, first_pem(&stored.ca));
            return Ok(Some(new));
        }
        if stored.made.names == names && !past_half(stored.made.at, LIFE, now) {
            return Ok(None);
        }
        let ca_key = KeyPair::from_pem(&stored.ca_key)?;
        let (certificate, key) = sign(stored.made.ca_at, ca_key, names, now)?;
        let made = Made { ca_at: stored.made.ca_at, at: now, names: names.to_vec() };
        Ok(Some(Self { certificate, key, made, ..stored.clone() }))
    }

    fn new(names: &[String], now: Timestamp) -> Result<Self, CertificateError> {
        let ca_key = KeyPair::generate()?;
        let ca_key_pem = ca_key.serialize_pem();
        let ca = ca_params(now).self_signed(&ca_key)?.pem();
        let (certificate, key) = sign(now, ca_key, names, now)?;
        let made = Made { ca_at: now, at: now, names: names.to_vec() };
        Ok(Self { ca, ca_key: ca_key_pem, certificate, key, made })
    }

    /// The certificate and its key, as rustls wants them.
    pub fn certified_key(&self) -> Result<CertifiedKey, CertificateError> {
        let chain =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(CertifiedKey::from_der(chain, key, &provider)?)
    }

    /// What signs for the nodes that may read an origin. It comes from the key of the CA: every leader has the same, and no second
    /// secret has to be kept.
    pub fn ingest_key(&self) -> Result<SigningKey, CertificateError> {
        let ca_key = PrivateKeyDer::from_pem_slice(self.ca_key.as_bytes())?;
        let seed = Sha256::new().chain_update(INGEST_DOMAIN).chain_update(ca_key.secret_der()).finalize();
        Ok(SigningKey::from_seed(&seed.into()))
    }
}

fn past_half(made: Timestamp, life: SignedDuration, now: Timestamp) -> bool {
    now.duration_since(made) > life / 2
}

/// The certificate that is in use now: an older one is only carried along once.
fn first_pem(bundle: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    bundle.find(END).map_or(bundle, |at| &bundle[..at + END.len()])
}

/// The same for the same moment: what signs later is called as the certificate says.
fn ca_params(made: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("samara-operator CA {}", made.as_second()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    set_life(&mut params, made, CA_LIFE);
    params
}

fn sign(
    ca_made: Timestamp,
    ca_key: KeyPair,
    names: &[String],
    now: Timestamp,
) -> Result<(String, String), CertificateError> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = name("samara-operator");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now, LIFE);
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(ca_params(ca_made), ca_key);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Year, month and day (UTC): validity in whole days is fine enough.
fn day(at: Timestamp) -> (i32, u8, u8) {
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    (i32::from(date.year()), u8::try_from(date.month()).unwrap_or(1), u8::try_from(date.day()).unwrap_or(1))
}

fn set_life(params: &mut CertificateParams, made: Timestamp, life: SignedDuration) {
    let (year, month, date) = day(made - EARLIER);
    params.not_before = rcgen::date_time_ymd(year, month, date);
    let (year, month, date) = day(made + life);
    params.not_after = rcgen::date_time_ymd(year, month, date);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["samara-operator.samara-system.svc".into()]
    }

    #[test]
    fn it_is_made_once_and_renewed_at_half_life() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = Bundle::renewed(None, &names(), start).unwrap().unwrap();
        first.certified_key().unwrap();
        let days = |n: i64| start + SignedDuration::from_hours(24 * n);
        assert!(Bundle::renewed(Some(&first), &names(), days(180)).unwrap().is_none());
        let second = Bundle::renewed(Some(&first), &names(), days(190)).unwrap().unwrap();
        assert_eq!(second.ca, first.ca);
        assert_ne!(second.certificate, first.certificate);
        let other = vec!["127.0.0.1".to_owned()];
        let third = Bundle::renewed(Some(&first), &other, days(1)).unwrap().unwrap();
        assert_eq!((third.ca.clone(), third.made.names.clone()), (first.ca.clone(), other));
        let fourth = Bundle::renewed(Some(&first), &names(), days(365 * 5 + 10)).unwrap().unwrap();
        assert!(fourth.ca.ends_with(&first.ca) && fourth.ca != first.ca, "both vouch for a while");
    }

    #[test]
    fn the_ingest_key_lives_as_long_as_the_ca() {
        let now = Timestamp::now();
        let first = Bundle::renewed(None, &names(), now).unwrap().unwrap();
        let key = |bundle: &Bundle| bundle.ingest_key().unwrap().public();
        let other_name = Bundle::renewed(Some(&first), &["127.0.0.1".to_owned()], now).unwrap().unwrap();
        assert_eq!(key(&first), key(&other_name), "another certificate of the same CA");
        let stored_by_another = Bundle { ca_key: first.ca_key.replace('\n', "\r\n"), ..first.clone() };
        assert_eq!(key(&first), key(&stored_by_another), "the key counts, not how it is written");
        let other_ca = Bundle::renewed(None, &names(), now).unwrap().unwrap();
        assert_ne!(key(&first), key(&other_ca));
    }

    #[test]
    fn clients_that_trust_the_ca_trust_what_it_signs_later() {
        let now = Timestamp::now();
        let first = Bundle::renewed(None, &["localhost".to_owned()], now).unwrap().unwrap();
        let second = Bundle::renewed(Some(&first), &["127.0.0.1".to_owned()], now).unwrap().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(second.ca.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(second.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let check = |name: &str| {
            let name = name.to_owned().try_into().unwrap();
            let now = rustls_pki_types::UnixTime::now();
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                &*verifier,
                &chain[0],
                &[],
                &name,
                &[],
                now,
            )
        };
        check("127.0.0.1").unwrap();
        check("localhost").unwrap_err();
    }
}
