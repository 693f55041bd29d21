use super::*;
use crate::desired::entries::{JobStatus, entries};
use crds::NodePhase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn world() -> Observed {
    Observed {
        class: Some(ClassView { root_matches: true, retire: None }),
        node: Some(NodeView::default()),
        listed: true,
        ..Observed::default()
    }
}

fn wanted() -> Desired {
    Desired { distribution_uid: "d".into(), current: true, ..Desired::default() }
}

fn with(desired: Option<Desired>, local: Option<Local>) -> Observed {
    let mut observed = world();
    observed.desired.extend(desired.map(|d| ("r".to_owned(), d)));
    observed.local.extend(local.map(|l| ("r".to_owned(), l)));
    observed
}

fn local(data: Data, job: Option<Job>) -> Local {
    Local { data, job, startable: data != Data::None, linked: data == Data::Published, ..Local::default() }
}

fn start(job: Job) -> Vec<Action> {
    vec![Action::Start("r".into(), job)]
}

fn stop() -> Vec<Action> {
    vec![Action::Stop("r".into())]
}

#[test]
fn a_new_revision_waits_then_is_fetched_by_the_elected_and_shared_by_all() {
    assert_eq!(plan(&with(Some(wanted()), None)), []);
    let elected = Desired { fetch_here: true, ..wanted() };
    assert_eq!(plan(&with(Some(elected.clone()), None)), start(Job::Fetch));
    assert_eq!(plan(&with(Some(elected), Some(local(Data::Incoming, Some(Job::Fetch))))), []);
    let built = Desired { torrents: true, ..wanted() };
    assert_eq!(plan(&with(Some(built.clone()), None)), start(Job::Share));
    assert_eq!(plan(&with(Some(built.clone()), Some(local(Data::Incoming, Some(Job::Fetch))))), stop());
    assert_eq!(plan(&with(Some(built), Some(local(Data::Published, Some(Job::Share))))), []);
}

#[test]
fn when_every_copy_is_lost_the_elected_node_reads_the_origin_again() {
    let elected = Desired { torrents: true, fetch_here: true, ..wanted() };
    assert_eq!(plan(&with(Some(elected.clone()), None)), start(Job::Fetch));
    let sharing = local(Data::Incoming, Some(Job::Share));
    assert_eq!(plan(&with(Some(elected.clone()), Some(sharing))), stop(), "peers have nothing to give");
    assert_eq!(plan(&with(Some(elected.clone()), Some(local(Data::Incoming, None)))), start(Job::Fetch));
    let published = local(Data::Published, Some(Job::Share));
    assert_eq!(plan(&with(Some(elected), Some(published))), [], "this node has the copy");
}

#[test]
fn a_lost_election_stops_the_fetch_and_keeps_the_bytes() {
    assert_eq!(plan(&with(Some(wanted()), Some(local(Data::Incoming, Some(Job::Fetch))))), stop());
    assert_eq!(plan(&with(Some(wanted()), Some(local(Data::Incoming, None)))), []);
}

#[test]
fn deletion_frees_or_keeps() {
    let deleting = |on_delete| Desired { torrents: true, deleting: true, on_delete, ..wanted() };
    let gone = deleting(OnDelete::Delete);
    assert_eq!(plan(&with(Some(gone.clone()), Some(local(Data::Published, Some(Job::Share))))), stop());
    assert_eq!(plan(&with(Some(gone.clone()), Some(local(Data::Published, None)))), start(Job::Remove));
    assert_eq!(plan(&with(Some(gone.clone()), Some(local(Data::Incoming, None)))), start(Job::Remove));
    assert_eq!(plan(&with(Some(gone), None)), []);
    let kept = deleting(OnDelete::Retain);
    assert_eq!(plan(&with(Some(kept.clone()), Some(local(Data::Published, None)))), start(Job::Retain));
    assert_eq!(plan(&with(Some(kept.clone()), Some(local(Data::Retained, None)))), []);
    assert_eq!(plan(&with(Some(kept), Some(local(Data::Incoming, None)))), start(Job::Remove));
}

#[test]
fn a_removal_under_way_is_never_interrupted() {
    let back = Desired { torrents: true, ..wanted() };
    assert_eq!(plan(&with(Some(back), Some(local(Data::Published, Some(Job::Remove))))), []);
}

#[test]
fn a_superseded_revision_goes_only_when_its_successor_is_published_and_linked() {
    let old = Desired { torrents: true, current: false, ..wanted() };
    let mut observed = with(Some(old), Some(local(Data::Published, Some(Job::Share))));
    assert_eq!(plan(&observed), []);
    observed.desired.insert("s".into(), Desired { torrents: true, ..wanted() });
    observed.local.insert("s".into(), local(Data::Incoming, Some(Job::Share)));
    assert_eq!(plan(&observed), []);
    observed.local.insert("s".into(), Local { linked: false, ..local(Data::Published, Some(Job::Share)) });
    assert_eq!(plan(&observed), []);
    observed.local.insert("s".into(), local(Data::Published, Some(Job::Share)));
    assert_eq!(plan(&observed), stop());
    observed.local.insert("r".into(), local(Data::Published, None));
    assert_eq!(plan(&observed), start(Job::Remove));
}

#[test]
fn a_superseded_revision_that_is_not_whole_is_not_pursued() {
    let old = Desired { torrents: true, current: false, ..wanted() };
    assert_eq!(plan(&with(Some(old.clone()), Some(local(Data::Incoming, Some(Job::Share))))), stop());
    assert_eq!(plan(&with(Some(old), None)), []);
}

#[test]
fn before_the_first_list_what_is_here_goes_on_and_nothing_is_dropped() {
    let mut observed = with(None, Some(local(Data::Published, None)));
    observed.listed = false;
    observed.class = None;
    observed.node = None;
    observed.now = Duration::from_hours(1);
    assert_eq!(plan(&observed), start(Job::Share));
    observed.local.insert("r".into(), Local { startable: false, ..local(Data::Incoming, None) });
    assert_eq!(plan(&observed), []);
}

#[test]
fn a_missing_revision_is_an_orphan_only_after_grace_and_confirmation() {
    let mut orphan = local(Data::Published, Some(Job::Share));
    orphan.missing_since = Some(Duration::from_secs(10));
    let mut observed = with(None, Some(orphan.clone()));
    observed.now = Duration::from_secs(12);
    assert_eq!(plan(&observed), []);
    observed.now = Duration::from_secs(15);
    assert_eq!(plan(&observed), vec![Action::ConfirmOrphan("r".into())]);
    orphan.orphan = true;
    observed.local.insert("r".into(), orphan.clone());
    assert_eq!(plan(&observed), stop());
    orphan.job = None;
    observed.local.insert("r".into(), orphan.clone());
    assert_eq!(plan(&observed), start(Job::Remove));
    orphan.on_delete = OnDelete::Retain;
    observed.local.insert("r".into(), orphan);
    assert_eq!(plan(&observed), start(Job::Retain));
}

#[test]
fn an_unreadable_revision_and_retained_data_are_left_alone() {
    let mut observed = with(None, Some(local(Data::Published, Some(Job::Share))));
    observed.unreadable.insert("r".into());
    observed.now = Duration::from_hours(1);
    assert_eq!(plan(&observed), []);
    let mut retained = local(Data::Retained, None);
    retained.missing_since = Some(Duration::ZERO);
    let mut observed = with(None, Some(retained));
    observed.now = Duration::from_hours(1);
    assert_eq!(plan(&observed), []);
}

#[test]
fn another_root_stops_all_work() {
    let mut observed =
        with(Some(Desired { torrents: true, ..wanted() }), Some(local(Data::Published, Some(Job::Share))));
    observed.class = Some(ClassView { root_matches: false, retire: None });
    assert_eq!(plan(&observed), stop());
    observed.local.insert("r".into(), local(Data::Published, None));
    assert_eq!(plan(&observed), []);
}

#[test]
fn a_retired_class_keeps_or_purges() {
    let built = Desired { torrents: true, ..wanted() };
    let mut observed = with(Some(built), Some(local(Data::Published, None)));
    observed.class = Some(ClassView { root_matches: true, retire: Some(Retire::Keep) });
    assert_eq!(plan(&observed), []);
    assert_eq!(entries(&observed, &BTreeMap::new(), &[], &now()), []);
    observed.class = Some(ClassView { root_matches: true, retire: Some(Retire::Purge) });
    assert_eq!(plan(&observed), start(Job::Remove));
    observed.local.insert("r".into(), local(Data::Retained, None));
    assert_eq!(plan(&observed), start(Job::Remove));
    observed.local.clear();
    assert_eq!(plan(&observed), []);
    assert_eq!(entries(&observed, &BTreeMap::new(), &[], &now()), []);
}

#[test]
fn a_node_that_is_no_longer_selected_frees_the_disk() {
    let elsewhere =
        Desired { torrents: true, selector: BTreeMap::from([("pool".into(), "gpu".into())]), ..wanted() };
    assert_eq!(plan(&with(Some(elsewhere.clone()), None)), []);
    let after = |seconds: u64, job| {
        let here = Local { unselected_since: Some(Duration::from_secs(100)), ..local(Data::Published, job) };
        let observed = with(Some(elsewhere.clone()), Some(here));
        plan(&Observed { now: Duration::from_secs(100 + seconds), ..observed })
    };
    assert_eq!(after(59, Some(Job::Share)), [], "its labels may come back");
    assert_eq!(after(60, Some(Job::Share)), stop());
    assert_eq!(after(60, None), start(Job::Remove));
    let fresh = local(Data::Published, Some(Job::Share));
    assert_eq!(plan(&with(Some(elsewhere), Some(fresh))), [], "nobody has looked for how long");
}

fn now() -> Time {
    Time("2026-01-01T00:00:00Z".parse().expect("a timestamp"))
}

#[test]
fn where_not_all_fit_current_revisions_are_told_first() {
    let mut observed = world();
    for number in 0..300 {
        let desired = Desired { torrents: true, current: number >= 100, ..wanted() };
        observed.desired.insert(format!("r{number:03}"), desired);
        observed.local.insert(format!("r{number:03}"), local(Data::Published, None));
    }
    let told = entries(&observed, &BTreeMap::new(), &[], &now());
    assert_eq!(told.len(), crds::MAX_NODE_REVISIONS);
    assert!(told.is_sorted_by(|a, b| a.revision < b.revision));
    assert_eq!(told.iter().filter(|entry| entry.revision.as_str() >= "r100").count(), 200);
}

#[test]
fn entries_say_where_each_revision_stands() {
    let observed = with(Some(wanted()), None);
    let first = entries(&observed, &BTreeMap::new(), &[], &now());
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].phase, &first[0].reason), (NodePhase::Pending, &None));

    let later = Time("2026-01-01T00:01:00Z".parse().expect("a timestamp"));
    let again = entries(&observed, &BTreeMap::new(), &first, &later);
    assert_eq!(again, first, "the same phase keeps its time");

    let fetching = with(Some(wanted()), Some(local(Data::Incoming, Some(Job::Fetch))));
    let status = JobStatus { phase: NodePhase::Fetching, origin_bytes: 7, ..JobStatus::default() };
    let moved = entries(&fetching, &BTreeMap::from([("r".to_owned(), status)]), &first, &later);
    assert_eq!((moved[0].phase, moved[0].origin_bytes, &moved[0].since), (NodePhase::Fetching, 7, &later));

    let gone = with(Some(Desired { deleting: true, ..wanted() }), None);
    assert_eq!(entries(&gone, &BTreeMap::new(), &moved, &later), []);
    let removing =
        with(Some(Desired { deleting: true, ..wanted() }), Some(local(Data::Incoming, Some(Job::Remove))));
    assert_eq!(entries(&removing, &BTreeMap::new(), &moved, &later)[0].phase, NodePhase::Deleting);
}
