//! What an origin is shown so that it answers: an `Authorization` header, for this origin alone.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use operator_api::Authorization;
use reqwest::header::HeaderValue;
use url::{Origin, Url};

/// A header's value for one origin, which may be replaced by a newer one while it is in use. Shows no secret.
#[derive(Default)]
pub struct Access(RwLock<Option<(Origin, HeaderValue)>>);

impl Access {
    /// Nothing to show yet, or this.
    pub fn new(authorization: Option<&Authorization>) -> Self {
        let access = Self::default();
        if let Some(authorization) = authorization {
            access.renew(authorization);
        }
        access
    }

    /// From now on this is shown. What is no header, or for nobody, is shown to nobody.
    pub fn renew(&self, authorization: &Authorization) {
        let origin = Url::parse(&authorization.origin).ok().map(|url| url.origin());
        let value = HeaderValue::from_str(&authorization.value).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        let shown = origin.filter(Origin::is_tuple).zip(value);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What is shown to whoever this URL names.
    pub(crate) fn header(&self, url: &Url) -> Option<HeaderValue> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().filter(|(origin, _)| *origin == url.origin()).map(|(_, value)| value.clone())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let origin = shown.as_ref().map(|(origin, _)| origin.ascii_serialization());
        f.debug_struct("Access").field("origin", &origin).finish_non_exhaustive()
    }
}
