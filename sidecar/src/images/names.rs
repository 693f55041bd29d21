//! Names in the container runtime, which several revisions of this node may want: a tag that has moved is the name of an image and of the one
//! that replaces it. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crds::RevisionImage;

use super::materialize::runtime_name;

/// So many images that have had a name are remembered for each: who began to pull one before it was replaced may end later.
const FORMER: usize = 8;
/// Names that nobody wants any more are kept until there are so many: the next revision may be about to want one.
const MOST: usize = 512;

/// Who wants which name.
#[derive(Debug, Default)]
pub struct Names(Mutex<BTreeMap<String, Name>>);

#[derive(Debug, Default)]
struct Name {
    /// By revision.
    holders: BTreeMap<String, Holder>,
    /// Digests that had the name through revisions which were replaced.
    former: VecDeque<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Holder {
    digest: String,
    current: bool,
    pin: bool,
}

impl Name {
    fn remember(&mut self, digest: &str) {
        if !self.former.iter().any(|known| known == digest) {
            self.former.push_back(digest.to_owned());
        }
        if self.former.len() > FORMER {
            self.former.pop_front();
        }
    }
}

impl Names {
    /// A revision has the runtime hold its image by its name, or did so until it was replaced (`current` is false then).
    pub fn hold(&self, revision: &str, image: &RevisionImage, current: bool) {
        let holder = Holder { digest: image.digest.clone(), current, pin: image.pin };
        let mut names = self.lock();
        let name = names.entry(runtime_name(image)).or_default();
        if !current {
            name.remember(&image.digest);
        }
        name.holders.insert(revision.to_owned(), holder);
    }

    /// Whether the name may be taken from the image with one of these digests: it is of a revision that was replaced, and of no other.
    pub fn is_former(&self, name: &str, has: impl Fn(&str) -> bool) -> bool {
        let names = self.lock();
        let Some(name) = names.get(name) else { return false };
        let held = name.holders.values().any(|holder| holder.current && has(&holder.digest));
        !held && name.former.iter().any(|digest| has(digest))
    }

    /// The revision goes. Answers whether another one wants its name to be pinned.
    pub fn release(&self, revision: &str, image: &RevisionImage) -> bool {
        let mut names = self.lock();
        let name = names.entry(runtime_name(image)).or_default();
        name.holders.remove(revision);
        name.remember(&image.digest);
        let pinned = name.holders.values().any(|holder| holder.pin);
        if names.len() > MOST {
            names.retain(|_, name| !name.holders.is_empty());
        }
        pinned
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "registry.example/team/app:1";

    fn image(digest: &str, pin: bool) -> RevisionImage {
        serde_json::from_value(serde_json::json!({
            "reference": NAME, "digest": digest, "mediaType": "a/b", "manifests": [],
            "access": "Cluster", "materialize": "Image", "pin": pin,
        }))
        .unwrap()
    }

    fn is_former(names: &Names, digest: &str) -> bool {
        names.is_former(NAME, |other| other == digest)
    }

    #[test]
    fn a_name_may_be_taken_back_from_what_was_replaced_and_from_nothing_else() {
        let names = Names::default();
        names.hold("app-1", &image("one", false), true);
        assert!(!is_former(&names, "one"));
        names.hold("app-2", &image("two", false), true);
        assert!(!is_former(&names, "one"), "it is not known to be replaced yet");
        names.hold("app-1", &image("one", false), false);
        assert!(is_former(&names, "one") && !is_former(&names, "two") && !is_former(&names, "other"));
        names.release("app-1", &image("one", false));
        assert!(is_former(&names, "one"), "whoever pulls it still may end later");
        names.hold("other-1", &image("one", false), true);
        assert!(!is_former(&names, "one"), "another Distribution wants it");
        names.release("other-1", &image("one", false));
        assert!(is_former(&names, "one"));
    }

    #[test]
    fn a_pin_stays_for_who_wants_it_still() {
        let names = Names::default();
        names.hold("app-1", &image("one", true), false);
        names.hold("app-2", &image("two", true), true);
        assert!(names.release("app-1", &image("one", true)));
        assert!(!names.release("app-2", &image("two", true)));
        assert!(!names.release("app-3", &image("three", true)), "it was never held");
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let names = Names::default();
        names.hold("now", &image("now", false), true);
        for nth in 0..20 {
            let old = image(&nth.to_string(), false);
            names.hold(&nth.to_string(), &old, false);
            names.release(&nth.to_string(), &old);
        }
        for nth in 0..2 * MOST {
            let mut other = image("one", false);
            other.reference = format!("{NAME}-{nth}");
            names.release("app-1", &other);
        }
        let all = names.lock();
        assert_eq!((all[NAME].former.len(), all[NAME].holders.len()), (FORMER, 1));
        assert!(all.len() <= MOST, "{}", all.len());
    }
}
