//! Bytes of which nothing can be kept: what the folder holds of them goes with the error.

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum Spoilt {
    /// The bytes are not those that were declared.
    #[error(
        "{url} has sha256 {found}, declared is {expected}: nothing of it is kept; correct --sha256, or the file"
    )]
    Wrong {
        /// Redacted.
        url: String,
        /// Hex.
        expected: String,
        /// Hex.
        found: String,
    },
    /// The server has another version now, and what is here is of one that nobody can read any more.
    #[error(
        "{url} has changed while it was read: {what}; nothing of it is kept, and the same command reads what it is now"
    )]
    Changed {
        /// Redacted.
        url: String,
        /// What tells.
        what: String,
    },
    /// The same, and only the bytes tell: the next start would take what is here for a part of it.
    #[error(
        "{url} shows other bytes than before, and nothing that tells its versions apart: {what}; nothing of it is kept, and the same command reads it anew"
    )]
    Differs {
        /// Redacted.
        url: String,
        /// What tells.
        what: String,
    },
    /// Whoever said what the pieces hash to has said wrong things.
    #[error(
        "what was read at {url} cannot be right: {what}; nothing of it is kept, and the same command reads it anew"
    )]
    Faulty {
        /// Redacted.
        url: String,
        /// Who, and what.
        what: String,
    },
}

/// Compares the digest of all bytes with the declared one.
pub fn check(declared: Option<[u8; 32]>, found: [u8; 32], url: &str) -> Result<(), Spoilt> {
    match declared {
        Some(expected) if expected != found => {
            let (expected, found) = (hex::encode(expected), hex::encode(found));
            Err(Spoilt::Wrong { url: url.to_owned(), expected, found })
        }
        _ => Ok(()),
    }
}
