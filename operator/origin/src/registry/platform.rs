//! Which manifests of an index are wanted. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::document::Descriptor;

/// `os/architecture[/variant]`, in the words that Go has for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Puts it into the usual words, as runtimes do (`Normalize` in containerd's `platforms`): `x86_64` is `amd64`, and the one variant
    /// that everything has is none. `None`: a word is empty, longer than 32 bytes or has other characters than theirs.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let variant = variant.unwrap_or_default();
        if !is_word(os) || !is_word(architecture) || !(variant.is_empty() || is_word(variant)) {
            return None;
        }
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            same => same,
        };
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        Some(Self { os, architecture: architecture.to_owned(), variant })
    }

    /// The same, said by an image: there, arm without a variant is v7.
    pub(super) fn of_image(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let mut platform = Self::new(os, architecture, variant)?;
        if platform.architecture == "arm" {
            platform.variant.get_or_insert_with(|| "v7".to_owned());
        }
        Some(platform)
    }

    /// Reads `os/architecture[/variant]`.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [os, architecture] => Self::new(os, architecture, None),
            [os, architecture, variant] if !variant.is_empty() => Self::new(os, architecture, Some(variant)),
            _ => None,
        }
    }

    /// Whether it is the same but for the variant: nodes do not tell theirs.
    pub fn is_like(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }

    /// The same without its variant.
    #[must_use]
    pub fn without_variant(&self) -> Self {
        Self { variant: None, ..self.clone() }
    }
}

fn is_word(text: &str) -> bool {
    const LONGEST: usize = 32;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(fits)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Which platforms of an image are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// Those of the nodes, as far as the image has them.
    OfNodes(BTreeSet<Platform>),
    /// All of these.
    All(BTreeSet<Platform>),
}

impl Platforms {
    fn wanted(&self) -> &BTreeSet<Platform> {
        let (Self::OfNodes(wanted) | Self::All(wanted)) = self;
        wanted
    }

    /// Whether one of them can run this. A node does not tell its variant, so that without one any will do.
    pub(super) fn has(&self, platform: &Platform) -> bool {
        self.wanted().iter().any(|wanted| {
            wanted.is_like(platform) && (wanted.variant.is_none() || wanted.variant == platform.variant)
        })
    }

    /// The manifests for them. Where a variant is not said, those without one, and if there are none, all. `Err`: those that are
    /// missing.
    pub(super) fn choose<'a>(
        &self,
        entries: &'a [(Platform, Descriptor)],
    ) -> Result<Vec<&'a (Platform, Descriptor)>, Vec<&Platform>> {
        let (mut chosen, mut missing) = (Vec::new(), Vec::new());
        for wanted in self.wanted() {
            let exact: Vec<_> = entries.iter().filter(|(platform, _)| platform == wanted).collect();
            let like = entries.iter().filter(|(platform, _)| exact.is_empty() && platform.is_like(wanted));
            let like: Vec<_> = like.filter(|_| wanted.variant.is_none()).collect();
            if exact.is_empty() && like.is_empty() {
                missing.push(wanted);
            }
            chosen.extend(exact.into_iter().chain(like));
        }
        let enough = match self {
            Self::OfNodes(_) => !chosen.is_empty(),
            Self::All(_) => missing.is_empty(),
        };
        if enough { Ok(chosen) } else { Err(missing) }
    }
}

/// For people: at most so many, the first in order.
pub(super) fn list<'a>(platforms: impl Iterator<Item = &'a Platform>) -> String {
    const SHOWN: usize = 6;
    let all: BTreeSet<&Platform> = platforms.collect();
    let mut shown: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    if all.len() > SHOWN {
        shown.push(format!("{} more", all.len() - SHOWN));
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}
