//! `WWW-Authenticate` (RFC 9110 section 11.6.1), as far as registries use it. Pure.

/// What a registry asks to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token, to be had elsewhere.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
    },
    /// User and password.
    Basic,
}

/// The challenge to answer among these headers: a token rather than a password.
pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

/// The longest challenge that is passed on.
const LONGEST: usize = 4 << 10;

/// The first of these headers that asks for a token and for nothing else, and where the token is to be had. For those who pass it on
/// as it stands, so only one that everybody reads alike: nothing is escaped in it.
pub(super) fn token_alone<'a>(mut headers: impl Iterator<Item = &'a str>) -> Option<(&'a str, String)> {
    headers.find_map(|header| {
        let plain = header.len() <= LONGEST && !header.contains('\\');
        let scheme = header.split(' ').next().unwrap_or_default();
        match parse(header).pop() {
            Some(Challenge::Bearer { realm, .. })
                if plain && scheme.eq_ignore_ascii_case("bearer") && parse(header).len() == 1 =>
            {
                Some((header, realm))
            }
            _ => None,
        }
    })
}

/// The challenges of one header that are known here.
fn parse(header: &str) -> Vec<Challenge> {
    let (mut all, mut rest) = (Vec::new(), header);
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match (after.trim_start().strip_prefix('='), &mut current) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = take_value(value.trim_start());
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            // A parameter of no scheme.
            (Some(_), None) => break,
            (None, _) => {
                all.extend(current.take().and_then(known));
                current = Some((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    all.extend(current.and_then(known));
    all
}

/// A token or a quoted string, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !escaped => return (value, &quoted[at + 1..]),
            '\\' if !escaped => escaped = true,
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

fn known((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let one = |name: &str| {
        let mut values = parameters.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    };
    match scheme.as_str() {
        "bearer" => Some(Challenge::Bearer { realm: one("realm")?, service: one("service") }),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}
