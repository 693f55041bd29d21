//! What a client shows of itself: a token, or something that is not looked at.

use axum::http::{HeaderMap, header};

/// What stands in a request's `Authorization`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// It has none.
    Nothing,
    /// A Bearer token (RFC 6750 section 2.1).
    Token(&'a str),
    /// A password, or what cannot be read: nobody's business here.
    Other,
}

/// What the client shows.
pub(crate) fn shown(headers: &HeaderMap) -> Shown<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Shown::Nothing };
    if values.next().is_some() {
        return Shown::Other;
    }
    let words = value.to_str().ok().and_then(|text| text.split_once(' '));
    match words {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && is_token(token) => {
            Shown::Token(token)
        }
        _ => Shown::Other,
    }
}

fn is_token(token: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !token.is_empty() && token.bytes().all(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_proper_token_is_one() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            match shown(&headers) {
                Shown::Nothing => "nothing".to_owned(),
                Shown::Token(token) => token.to_owned(),
                Shown::Other => "other".to_owned(),
            }
        };
        for (values, expected) in [
            (&[][..], "nothing"),
            (&["Bearer a.b-c_d~e+f/g=="], "a.b-c_d~e+f/g=="),
            (&["bearer t"], "t"),
            (&["Basic bWU6c2VjcmV0"], "other"),
            (&["Bearer"], "other"),
            (&["Bearer "], "other"),
            (&["Bearer a b"], "other"),
            (&["Bearer a,Basic b"], "other"),
            (&["Bearer a", "Basic b"], "other"),
            (&["Bearer a", "Bearer a"], "other"),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }
}
