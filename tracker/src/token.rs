//! The one credential of a tracker.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The token that the operator and the sidecars of a class show. Only its hash is kept: it is never printed, and comparing
/// takes the same time whatever was shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// What the credential of siblings is derived under.
const SIBLING: &[u8] = b"samara tracker sibling";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("the token is empty")]
    Empty,
    /// The file cannot be read.
    #[error("cannot read the token from {path}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// No credential.
    Nothing,
    /// The right one.
    Right,
    /// That of a sibling, which may read and nothing else.
    Sibling,
    /// Another one, or one that this tracker cannot check since it has none.
    Wrong,
}

impl Token {
    /// From its text; white space around it (a file's last line end) does not count.
    ///
    /// # Errors
    /// [`TokenError::Empty`]
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() { Err(TokenError::Empty) } else { Ok(Token(Sha256::digest(text).into())) }
    }

    /// From a file, as a Secret is mounted.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TokenError::File { path: path.display().to_string(), source })?;
        Token::new(&text)
    }

    /// What a tracker shows to its siblings: it is derived from the token, and does not give it away.
    pub(crate) fn sibling_credential(&self) -> String {
        hex::encode(self.derive(SIBLING))
    }

    /// A key for another purpose, the same at all that have the token.
    pub(crate) fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(purpose).chain_update(self.0).finalize().into()
    }

    fn judge(&self, text: &str) -> Shown {
        let same = |ours: [u8; 32], theirs: &[u8; 32]| {
            ours.iter().zip(theirs).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs)) == 0
        };
        let shown: [u8; 32] = Sha256::digest(text).into();
        // Both, whichever is right: it takes the same time.
        let sibling = same(Sha256::digest(self.sibling_credential()).into(), &shown);
        match (same(self.0, &shown), sibling) {
            (true, _) => Shown::Right,
            (false, true) => Shown::Sibling,
            (false, false) => Shown::Wrong,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What the value of `Authorization` shows to a tracker with this token: `Bearer` and the token (RFC 6750).
pub fn shown(token: Option<&Token>, authorization: Option<&[u8]>) -> Shown {
    let Some(value) = authorization else { return Shown::Nothing };
    let text = std::str::from_utf8(value).ok().and_then(|value| {
        let (scheme, text) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(text.trim())
    });
    match (token, text) {
        (Some(token), Some(text)) => token.judge(text),
        _ => Shown::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(token: Option<&Token>, value: &str) -> Shown {
        shown(token, Some(value.as_bytes()))
    }

    #[test]
    fn only_the_right_token_opens() {
        let token = Token::new("s3cret\n").unwrap();
        assert_eq!(show(Some(&token), "Bearer s3cret"), Shown::Right);
        assert_eq!(show(Some(&token), "bearer s3cret"), Shown::Right);
        for wrong in ["Bearer s3cre", "Bearer s3cret2", "Bearer ", "Bearer", "s3cret", "Basic s3cret"] {
            assert_eq!(show(Some(&token), wrong), Shown::Wrong, "{wrong}");
        }
        assert_eq!(show(None, "Bearer s3cret"), Shown::Wrong, "without a token nothing opens");
        assert_eq!(shown(Some(&token), None), Shown::Nothing);
    }

    #[test]
    fn a_sibling_shows_what_only_the_same_token_makes() {
        let token = Token::new("s3cret").unwrap();
        let credential = token.sibling_credential();
        assert_eq!(show(Some(&token), &format!("Bearer {credential}")), Shown::Sibling);
        let other = Token::new("other").unwrap();
        assert_eq!(show(Some(&other), &format!("Bearer {credential}")), Shown::Wrong);
        assert!(!credential.contains("s3cret") && credential != hex::encode(token.0));
    }

    #[test]
    fn a_derived_key_is_of_its_token_and_its_purpose() {
        let derive = |text, purpose: &[u8]| Token::new(text).unwrap().derive(purpose);
        assert_eq!(derive("s3cret", b"a"), derive("s3cret\n", b"a"));
        assert_ne!(derive("s3cret", b"a"), derive("s3cret", b"b"));
        assert_ne!(derive("s3cret", b"a"), derive("other", b"a"));
    }

    #[test]
    fn t104_a_token_is_not_printed() {
        assert!(!format!("{:?}", Token::new("s3cret").unwrap()).contains("s3cret"));
        assert!(Token::new(" \n").is_err());
    }
}
