//! What the machines call the content, and whom they believe. Pure.
//!
//! All that goes into it each machine finds out by itself: nobody has to tell the others.

use origin::Validator;
use sha2::{Digest as _, Sha256};
use torrent::ingest::{Outline, OutlineError, PublicKey, SigningKey};
use torrent::{RelPath, Version, piece_length_for};

/// So that no digest of something else can be taken for a key.
const DOMAIN: &[u8] = b"samara standalone ingest 1\0";

/// Says who may say what the pieces hash to: whoever knows the secret, else whoever knows the URL and what it stands for now.
pub fn authority(secret: Option<&[u8]>, url: &str, validator: &Validator) -> SigningKey {
    let mut hasher = Sha256::new().chain_update(DOMAIN);
    if let Some(secret) = secret {
        hasher.update(b"secret\0");
        hasher.update(secret);
    } else {
        hasher.update(b"url\0");
        hasher.update(url.split('#').next().unwrap_or(url));
        hasher.update(b"\0");
        hasher.update(version(validator));
    }
    SigningKey::from_seed(&hasher.finalize().into())
}

/// The outline of a file, whatever its URL: its name and length, and what tells this version from others.
pub fn outline(name: &RelPath, validator: &Validator, key: PublicKey) -> Result<Outline, OutlineError> {
    let version = hex::encode(Sha256::digest(version(validator)));
    let files = vec![(name.clone(), validator.size)];
    let about = format!("{} {version}", name.as_str());
    Outline::new(&about, 0, key, Version::Hybrid, piece_length_for(validator.size), files)
}

/// The ETag if there is one, since it decides alone, else `Last-Modified`.
fn version(validator: &Validator) -> String {
    match (&validator.etag, &validator.last_modified) {
        (Some(etag), _) => format!("etag {etag}"),
        (None, Some(modified)) => format!("modified {modified}"),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator(etag: Option<&str>, modified: Option<&str>) -> Validator {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Validator { size: 5_000_000, etag: owned(etag), last_modified: owned(modified) }
    }

    fn id(secret: Option<&[u8]>, url: &str, validator: &Validator) -> String {
        let key = authority(secret, url, validator);
        outline(&RelPath::parse("model.bin").unwrap(), validator, key.public()).unwrap().id().to_string()
    }

    #[test]
    fn machines_that_see_the_same_version_agree_and_others_do_not() {
        let now = validator(Some("\"1\""), Some("Mon"));
        let url = "https://a.example/model.bin";
        assert_eq!(
            id(None, url, &now),
            id(None, &format!("{url}#x"), &validator(Some("\"1\""), Some("Tue")))
        );
        for other in [validator(Some("\"2\""), None), validator(None, Some("Mon")), validator(None, None)] {
            assert_ne!(id(None, url, &now), id(None, url, &other));
        }
        assert_ne!(id(None, url, &now), id(None, "https://b.example/model.bin", &now));
    }

    #[test]
    fn with_a_secret_the_url_does_not_matter_and_another_secret_is_another_swarm() {
        let now = validator(Some("\"1\""), None);
        let [one, other] = [[1; 16], [2; 16]];
        assert_eq!(id(Some(&one), "https://a/model.bin", &now), id(Some(&one), "https://b/model.bin", &now));
        assert_ne!(
            id(Some(&one), "https://a/model.bin", &now),
            id(Some(&other), "https://a/model.bin", &now)
        );
        assert_ne!(id(Some(&one), "https://a/model.bin", &now), id(None, "https://a/model.bin", &now));
    }

    #[test]
    fn the_longest_name_makes_an_outline() {
        let name = RelPath::parse(&"x".repeat(255)).unwrap();
        let key = authority(None, "u", &validator(None, None)).public();
        assert!(outline(&name, &validator(Some(&"y".repeat(4000)), None), key).is_ok());
    }
}
