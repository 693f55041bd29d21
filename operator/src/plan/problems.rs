//! What keeps a `Distribution` from getting on.

use std::sync::Arc;

use crds::{Distribution, DistributionRevision, MAX_NODE_REVISIONS};
use operator_api::reason;

use super::Observed;
use super::revisions::{Choice, is_built};
use super::status::Picture;
use crate::failure::Failure;

impl Picture<'_> {
    /// What keeps the source from being resolved.
    pub fn unresolved_problem(&self) -> Option<&Failure> {
        self.class_problem.as_ref().or(self.resolve_problem.as_ref())
    }

    /// What keeps the torrents from being built.
    pub fn build_problem(&self) -> Option<&Failure> {
        let problem = self.digest_problem.as_ref().or(self.class_problem.as_ref());
        problem.or(self.resolve_problem.as_ref()).or(self.fetch_problem.as_ref())
    }

    /// The first thing that keeps all of it from getting on.
    pub fn problem(&self) -> Option<Failure> {
        if let Some(problem) = self.build_problem() {
            return Some(problem.clone());
        }
        let counts = &self.counts;
        if counts.desired == 0 {
            let message = "no node is selected: label nodes as placement.nodeSelector asks, or change it, and see that the \
                           class's DaemonSet runs there";
            return Some(Failure::new("NoNodesSelected", message));
        }
        if counts.desired == counts.unreachable {
            let message = "every selected node has been NotReady for over a minute: bring one back";
            return Some(Failure::new("NodesUnreachable", message));
        }
        if let Some(problem) = &self.copy_problem {
            return Some(problem.clone());
        }
        if counts.active == 0
            && counts.pending > 0
            && let Some(problem) = &self.room_problem
        {
            return Some(problem.clone());
        }
        // What some still work on may yet come right.
        let worst = self.failures.first().filter(|_| counts.active == 0 && counts.pending == 0)?;
        Some(Failure::new(&worst.reason, worst.message.as_str()))
    }
}

/// Nodes cannot tell of it, so that nobody knows whether they have it.
pub fn room_problem(observed: &Observed, revision: &str) -> Option<Failure> {
    observed.crowded_out.contains(revision).then(|| {
        let message = format!(
            "the class has more than {MAX_NODE_REVISIONS} revisions, and a node tells of no more than that: delete Distributions, or \
             spread them over several classes"
        );
        Failure::new("TooManyRevisions", message)
    })
}

pub fn class_problem(observed: &Observed, distribution: &Distribution) -> Option<Failure> {
    let class = &distribution.spec.class_name;
    observed.class.is_none().then(|| {
        let message = format!("there is no DistributionClass {class:?}: make it, or make the Distribution with another className");
        Failure::new("ClassNotFound", message)
    })
}

/// It was built, and then every node that had all of it went.
pub fn copy_problem(choice: &Choice<'_>) -> Option<Failure> {
    let lost = choice.needs_origin && choice.target.is_some_and(|target| is_built(target));
    lost.then(|| {
        let message = "no reachable node has the whole content any more: a node is elected to read the origin again; \
                       bring a node back that had it, or see that the origin answers";
        Failure::new("CopyLost", message)
    })
}

pub fn digest_problem(
    distribution: &Distribution,
    target: Option<&Arc<DistributionRevision>>,
) -> Option<Failure> {
    let expected = distribution.spec.expected_digest.as_deref()?;
    let digest = format!("sha256:{}", target?.spec.manifest_digest.as_deref()?);
    (digest != expected).then(|| {
        let message =
            format!("the content is {digest}, and expectedDigest is another: correct it, or the source");
        Failure::new(reason::DIGEST_MISMATCH, message)
    })
}
