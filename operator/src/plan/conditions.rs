//! Conditions: `lastTransitionTime` moves only with the status, and the order is always the same.

use crds::condition::{AVAILABLE, BUILT, PROGRESSING, READY, RESOLVED, STALLED};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::progress::human_size;
use super::status::Picture;
use crate::failure::cut;
use crate::grants::Reading;

/// The reason of `Resolved` where it stays true although a source that is followed cannot be asked whether it is another.
pub const CHECK_FAILED: &str = "UpdateCheckFailed";
/// The longest message of a condition, in bytes.
const LONGEST_MESSAGE: usize = 300;

/// What a condition is to say.
struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: String,
    message: String,
}

fn verdict(kind: &'static str, holds: bool, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { kind, holds, reason: reason.to_owned(), message: message.into() }
}

/// The six conditions of a `Distribution`.
pub fn conditions(
    picture: &Picture<'_>,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let verdicts = [
        resolved(picture),
        built(picture),
        available(picture),
        ready(picture),
        progressing(picture),
        stalled(picture),
    ];
    verdicts.into_iter().map(|verdict| condition(verdict, old, generation, now)).collect()
}

fn condition(verdict: Verdict, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = old.iter().find(|old| old.type_ == verdict.kind && old.status == status);
    Condition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason,
        message: cut(&verdict.message, LONGEST_MESSAGE),
        observed_generation: generation,
        last_transition_time: before.map_or(Time(whole_seconds(now)), |old| old.last_transition_time.clone()),
    }
}

/// Kubernetes keeps whole seconds: a finer time would differ from itself after the first write.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn resolved(picture: &Picture<'_>) -> Verdict {
    if picture.target.is_some() {
        return picture.check_problem.as_ref().map_or_else(
            || verdict(RESOLVED, true, "Resolved", ""),
            |problem| {
                let message =
                    format!("what is there stays until the source says what it is now: {}", problem.message);
                verdict(RESOLVED, true, CHECK_FAILED, message)
            },
        );
    }
    match picture.unresolved_problem() {
        Some(problem) => verdict(RESOLVED, false, &problem.reason, problem.message.as_str()),
        None => verdict(RESOLVED, false, "Resolving", "the origin is asked what the source is"),
    }
}

fn built(picture: &Picture<'_>) -> Verdict {
    if picture.is_built() && picture.digest_problem.is_none() {
        return verdict(BUILT, true, "Built", "");
    }
    if let Some(problem) = picture.build_problem() {
        return verdict(BUILT, false, &problem.reason, problem.message.as_str());
    }
    let Some(target) = picture.target else { return verdict(BUILT, false, "NotResolved", "") };
    match (picture.reading, &picture.fetcher) {
        (Some(reading), _) => verdict(BUILT, false, "Reading", told(reading, target.spec.content.bytes)),
        (None, Some(node)) => verdict(BUILT, false, "Fetching", format!("node {node} reads the origin")),
        (None, None) => verdict(BUILT, false, "NoFetcher", "no selected node can read the origin yet"),
    }
}

/// How much of the origin nodes can have by now.
fn told(reading: Reading, bytes: i64) -> String {
    let whole = human_size(u64::try_from(bytes).unwrap_or_default());
    let fetchers =
        if reading.fetchers == 1 { "1 node".to_owned() } else { format!("{} nodes", reading.fetchers) };
    format!("{} of {whole} are read, by {fetchers}, and shared with the others", human_size(reading.bytes))
}

fn available(picture: &Picture<'_>) -> Verdict {
    if !picture.is_built() {
        verdict(AVAILABLE, false, "NotBuilt", "")
    } else if picture.available {
        verdict(AVAILABLE, true, "WholeCopy", "")
    } else {
        verdict(AVAILABLE, false, "NoWholeCopy", "no reachable node has the whole of it")
    }
}

fn ready(picture: &Picture<'_>) -> Verdict {
    let counts = &picture.counts;
    let reachable = counts.desired - counts.unreachable;
    let mut message = format!("{} of {} nodes have it", counts.ready, reachable);
    if counts.unreachable > 0 {
        message = format!("{message}, {} are unreachable", counts.unreachable);
    }
    match picture.problem() {
        None if picture.is_ready() => verdict(READY, true, "AllNodesReady", message),
        Some(problem) => verdict(READY, false, &problem.reason, message),
        None if !picture.is_built() => verdict(READY, false, "NotBuilt", message),
        None => verdict(READY, false, "NodesNotReady", message),
    }
}

fn progressing(picture: &Picture<'_>) -> Verdict {
    if picture.is_ready() {
        return verdict(PROGRESSING, false, "Complete", "");
    }
    if picture.problem().is_some() {
        return verdict(PROGRESSING, false, "Stalled", "");
    }
    let reason = match picture.target {
        None => "Resolving",
        Some(_) if picture.is_built() => "Distributing",
        Some(_) if picture.reading.is_some() => "Reading",
        Some(_) => "Fetching",
    };
    verdict(PROGRESSING, true, reason, "")
}

fn stalled(picture: &Picture<'_>) -> Verdict {
    match picture.problem() {
        Some(problem) => verdict(STALLED, true, &problem.reason, problem.message.as_str()),
        None => verdict(STALLED, false, "NotStalled", ""),
    }
}
