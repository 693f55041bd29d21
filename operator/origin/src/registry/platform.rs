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
    /// Puts it into the usual words: `x86_64` is `amd64`, and the one variant that everything has is none.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = os.to_ascii_lowercase();
        let architecture = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| {
            !matches!((architecture.as_str(), variant.as_str()), (_, "") | ("amd64", "v1") | ("arm64", "v8"))
        });
        Self { os, architecture, variant }
    }

    /// Reads `os/architecture[/variant]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, architecture, variant) = (parts.next()?, parts.next()?, parts.next());
        let whole = parts.next().is_none() && !os.is_empty() && !architecture.is_empty();
        whole.then(|| Self::new(os, architecture, variant))
    }

    fn is_like(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }
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
