//! Leases: what keeps layers in containerd's content store (`containerd.services.leases.v1`).
//!
//! Where layers are discarded once they are unpacked, a lease that names them before the pull keeps them, so that they can be shared from
//! there. One that nobody wants any more keeps the disk full, whatever the kubelet collects.

use std::collections::HashMap;

use tonic::Code;

use crate::connection::{CALL_TIMEOUT, Runtime};
use crate::error::Error;
use crate::messages::containerd::{
    AddResourceRequest, CreateLeaseRequest, CreateLeaseResponse, DeleteLeaseRequest, Empty,
    ListLeasesRequest, ListLeasesResponse, ListResourcesRequest, ListResourcesResponse, Resource,
};

/// What our leases' ids begin with.
const PREFIX: &str = "samara.";
/// Says whose it is: several sidecars, of one class each, may run on a node.
const OWNER_LABEL: &str = "samara.dev/owner";
/// containerd takes identifiers of at most 76 characters.
pub(crate) const MAX_REVISION: usize = 76 - PREFIX.len();
/// Deleting collects garbage before it returns.
const DELETE_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(2);

impl Runtime {
    /// Keeps these layers (`sha256:...`) in the content store from now on, for `revision` of `owner`. They need not be there yet. What
    /// the lease names already, stays.
    pub async fn lease(&self, owner: &str, revision: &str, digests: &[String]) -> Result<(), Error> {
        let id = lease_id(revision)?;
        let labels = HashMap::from([(OWNER_LABEL.to_owned(), owner.to_owned())]);
        let made: Result<CreateLeaseResponse, Error> = self
            .call(
                "/containerd.services.leases.v1.Leases/Create",
                CreateLeaseRequest { id: id.clone(), labels },
                Some(CALL_TIMEOUT),
            )
            .await;
        match made {
            Ok(_) | Err(Error::Refused { code: Code::AlreadyExists, .. }) => {}
            Err(error) => return Err(error),
        }
        for digest in digests {
            let resource = Resource { id: digest.clone(), r#type: "content".into() };
            let question = AddResourceRequest { id: id.clone(), resource: Some(resource) };
            let _: Empty = self
                .call("/containerd.services.leases.v1.Leases/AddResource", question, Some(CALL_TIMEOUT))
                .await?;
        }
        Ok(())
    }

    /// The revisions that `owner` has leases for.
    pub async fn leased(&self, owner: &str) -> Result<Vec<String>, Error> {
        let answer: ListLeasesResponse = self
            .call("/containerd.services.leases.v1.Leases/List", ListLeasesRequest {}, Some(CALL_TIMEOUT))
            .await?;
        let ours = answer
            .leases
            .into_iter()
            .filter(|lease| lease.labels.get(OWNER_LABEL).is_some_and(|o| o == owner));
        let mut revisions: Vec<String> =
            ours.filter_map(|lease| lease.id.strip_prefix(PREFIX).map(str::to_owned)).collect();
        revisions.sort();
        Ok(revisions)
    }

    /// The layers that a revision's lease keeps; none where there is no lease.
    pub async fn leased_layers(&self, revision: &str) -> Result<Vec<String>, Error> {
        let question = ListResourcesRequest { id: lease_id(revision)? };
        let answer: Result<ListResourcesResponse, Error> = self
            .call("/containerd.services.leases.v1.Leases/ListResources", question, Some(CALL_TIMEOUT))
            .await;
        match answer {
            Ok(answer) => Ok(answer.resources.into_iter().map(|resource| resource.id).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Lets go of a revision's layers; what no image needs is gone from the disk when this returns. One without a lease is let go of already.
    pub async fn release(&self, revision: &str) -> Result<(), Error> {
        let question = DeleteLeaseRequest { id: lease_id(revision)?, sync: true };
        let answer: Result<Empty, Error> =
            self.call("/containerd.services.leases.v1.Leases/Delete", question, Some(DELETE_TIMEOUT)).await;
        answer.map(drop).or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }

    /// Lets go of everything of `owner`'s but these revisions, and answers what that was. At the start of a sidecar: leases have no end of
    /// their own, so one that was left lying by a crash is found only so. At an uninstall: with nothing to keep.
    pub async fn release_all_but(&self, owner: &str, keep: &[String]) -> Result<Vec<String>, Error> {
        let (mut gone, mut failed) = (Vec::new(), None);
        for revision in self.leased(owner).await?.into_iter().filter(|revision| !keep.contains(revision)) {
            match self.release(&revision).await {
                Ok(()) => gone.push(revision),
                // One must not keep the others.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(gone), Err)
    }
}

/// containerd's rule for identifiers: `[A-Za-z0-9]+([._-][A-Za-z0-9]+)*`.
fn lease_id(revision: &str) -> Result<String, Error> {
    let words = revision.split(['.', '_', '-']);
    let fits = revision.len() <= MAX_REVISION
        && words
            .into_iter()
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if fits {
        Ok(format!("{PREFIX}{revision}"))
    } else {
        Err(Error::LeaseName(revision.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_named_after_its_revision() {
        assert_eq!(lease_id("app-7f9").unwrap(), "samara.app-7f9");
        for bad in ["", "a..b", "-a", "a/b", &"a".repeat(MAX_REVISION + 1)] {
            assert!(lease_id(bad).is_err(), "{bad}");
        }
    }
}
