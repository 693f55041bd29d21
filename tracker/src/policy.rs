//! Which peers an announce is answered with. Pure: the sizes of groups and randomness come in, places in them go out.
//!
//! A node gets peers of its own zone first, and a share of others: a swarm in which everybody knows only neighbours falls
//! apart (in a simulation of 480 nodes in 3 zones, 160 finished), and a list that pays no heed to zones copies everything
//! between zones as often as there are nodes. Two remote peers of thirty gave one and a half times the least traffic.

use rand::Rng;
use rand::seq::SliceRandom;

/// Lists shorter than this are filled up with peers of other zones.
const SHORT_LIST: usize = 10;
/// Remote peers in a list, at least.
const MIN_REMOTE: usize = 2;
/// One peer in so many is remote in long lists: 10 %.
const REMOTE_SHARE: usize = 10;
/// Peers that stand side by side are chosen so many at a time: it costs a draw for each run instead of each peer, and few cache lines.
/// Runs are short, since neighbours came at about the same time and have mostly been told of the same peers.
const RUN: usize = 8;
/// Complete peers that a list for a leecher has at least, if there are so many; a short list has one.
const MIN_SEEDS: usize = 2;

/// Peers of one zone that are alike in being complete or not.
#[derive(Clone, Copy, Debug)]
pub struct Group<'z> {
    /// The zone; strangers and nodes without one have none.
    pub zone: Option<&'z str>,
    /// Whether they have everything.
    pub seeding: bool,
    /// How many they are.
    pub len: usize,
}

/// Who asks. It must not be among the peers.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'z> {
    /// Its zone, if known.
    pub zone: Option<&'z str>,
    /// Whether it has everything: then it gets no seeds.
    pub seeding: bool,
    /// Whether zones shall be passed over this once, since its download does not move.
    pub stalled: bool,
    /// Peers at most.
    pub want: usize,
}

/// A peer that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pick {
    /// The number of its group.
    pub group: usize,
    /// Its number in the group.
    pub position: usize,
}

/// Chooses peers for `asker`, each at most once and each equal one with the same chance. The list begins anywhere; where zones count, its
/// order is random.
pub fn choose(groups: &[Group<'_>], asker: Asker<'_>, rng: &mut impl Rng) -> Vec<Pick> {
    // Without a zone all are equally far, and there is no quota to keep.
    let zone = asker.zone.filter(|_| !asker.stalled);
    let useful = |group: &Group<'_>| !(asker.seeding && group.seeding);
    let is_near = |group: &Group<'_>| useful(group) && zone.is_none_or(|zone| group.zone == Some(zone));
    let is_far = |group: &Group<'_>| useful(group) && !is_near(group);
    let far = if zone.is_some() { count(groups, is_far) } else { 0 };
    let remote = remote_share(asker.want, count(groups, is_near)).min(far);
    let mut chosen = Vec::with_capacity(asker.want.min(far + count(groups, is_near)));
    sample(groups, is_near, asker.want - remote, &mut chosen, rng);
    sample(groups, is_far, remote, &mut chosen, rng);
    if !asker.seeding {
        ensure_seeds(&mut chosen, groups, [&is_near, &is_far], asker.want, rng);
    }
    if zone.is_some() {
        // Else near and far are one.
        chosen.shuffle(rng);
    }
    chosen
}

/// How many of `want` come from other zones when this one has `near` peers.
fn remote_share(want: usize, near: usize) -> usize {
    if near == 0 {
        // The first of a zone brings the data into it: half a list, and no less than a short one.
        return want.div_ceil(2).max(SHORT_LIST).min(want);
    }
    let quota = MIN_REMOTE.max(want / REMOTE_SHARE);
    quota.max(SHORT_LIST.saturating_sub(near)).min(want)
}

fn count(groups: &[Group<'_>], of: impl Fn(&Group<'_>) -> bool) -> usize {
    groups.iter().filter(|group| of(group)).map(|group| group.len).sum()
}

/// Adds `amount` peers of the groups that count, each with the same chance: runs of [`RUN`] neighbours from all over the ring that
/// the groups make, with gaps between them that are drawn.
fn sample(
    groups: &[Group<'_>],
    of: impl Fn(&Group<'_>) -> bool + Copy,
    amount: usize,
    chosen: &mut Vec<Pick>,
    rng: &mut impl Rng,
) {
    let total = count(groups, of);
    let amount = amount.min(total);
    if amount == 0 {
        return;
    }
    let left_out = total - amount;
    // From anywhere on, so that all positions are alike.
    let mut position = rng.random_range(0..total);
    for nth in (0..amount).step_by(RUN) {
        let len = RUN.min(amount - nth);
        // This run's share of those that are left out: some before it, the others behind.
        let share = (nth + len) * left_out / amount - nth * left_out / amount;
        let gap = if share == 0 { 0 } else { rng.random_range(0..=share) };
        add_run(groups, of, (position + gap) % total, len, chosen);
        position += share + len;
    }
}

/// Adds the peers from `position` on in the ring of the groups that count; they have as many at least.
fn add_run(
    groups: &[Group<'_>],
    of: impl Fn(&Group<'_>) -> bool + Copy,
    mut position: usize,
    mut len: usize,
    chosen: &mut Vec<Pick>,
) {
    for (group, found) in groups.iter().enumerate().filter(|(_, group)| of(group)).cycle() {
        if let Some(here) = found.len.checked_sub(position) {
            let here = here.min(len);
            chosen.extend((position..position + here).map(|position| Pick { group, position }));
            len -= here;
            if len == 0 {
                return;
            }
            position = 0;
        } else {
            position -= found.len;
        }
    }
}

/// A leecher that knows only leechers may wait for all of them: seeds replace others until there are enough, the nearest
/// first. A seed in place of the remote peers would break the swarm again, so those go last (they stand at the end).
fn ensure_seeds(
    chosen: &mut Vec<Pick>,
    groups: &[Group<'_>],
    distances: [&dyn Fn(&Group<'_>) -> bool; 2],
    want: usize,
    rng: &mut impl Rng,
) {
    let seeding = |pick: &Pick| groups[pick.group].seeding;
    let had = chosen.iter().filter(|pick| seeding(pick)).count();
    let wanted = if want < 2 * SHORT_LIST { want.min(1) } else { MIN_SEEDS };
    let mut missing = wanted.saturating_sub(had);
    let mut seeds = Vec::new();
    for of in distances {
        if missing == 0 {
            return;
        }
        seeds.clear();
        // As many more as are already there, since these may be drawn again.
        sample(groups, |group| group.seeding && of(group), missing + had, &mut seeds, rng);
        seeds.retain(|seed| !chosen.contains(seed));
        for &seed in seeds.iter().take(missing) {
            if chosen.len() >= want {
                let Some(replaced) = chosen.iter().position(|pick| !seeding(pick)) else { return };
                chosen.remove(replaced);
            }
            chosen.push(seed);
            missing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;

    use super::*;

    fn asker(zone: Option<&str>, want: usize) -> Asker<'_> {
        Asker { zone, seeding: false, stalled: false, want }
    }

    fn group(zone: &str, seeding: bool, len: usize) -> Group<'_> {
        Group { zone: Some(zone), seeding, len }
    }

    fn of_group(chosen: &[Pick], group: usize) -> usize {
        chosen.iter().filter(|pick| pick.group == group).count()
    }

    fn rng(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    #[test]
    fn a_list_is_near_with_a_remote_share() {
        let groups = [group("a", false, 100), group("b", false, 100)];
        for seed in 0..50 {
            let chosen = choose(&groups, asker(Some("a"), 50), &mut rng(seed));
            assert_eq!((chosen.len(), of_group(&chosen, 1)), (50, 5));
            assert_eq!(
                chosen.iter().map(|pick| (pick.group, pick.position)).collect::<HashSet<_>>().len(),
                50
            );
            let short = choose(&groups, asker(Some("a"), 12), &mut rng(seed));
            assert_eq!(of_group(&short, 1), 2);
        }
    }

    #[test]
    fn everybody_is_handed_out_as_often_as_others() {
        let groups = [group("a", false, 40), group("a", true, 60)];
        let mut times = [0u32; 100];
        for seed in 0..2_000 {
            for pick in choose(&groups, asker(None, 50), &mut rng(seed)) {
                times[pick.group * 40 + pick.position] += 1;
            }
        }
        // 1,000 each, with a standard deviation of 22.
        assert!(times.iter().all(|&times| (880..1_120).contains(&times)), "{times:?}");
    }

    #[test]
    fn nobody_is_in_a_list_twice_however_many_are_wanted_of_however_many() {
        for len in (1..60).chain([199, 200, 201, 1_000]) {
            for want in (1..=len.min(60)).chain([200]) {
                let groups =
                    [group("a", false, len / 3), group("a", false, 0), group("b", false, len - len / 3)];
                let chosen = choose(&groups, asker(None, want), &mut rng((len * want) as u64));
                let places: HashSet<_> = chosen.iter().map(|pick| (pick.group, pick.position)).collect();
                assert_eq!((chosen.len(), places.len()), (want.min(len), want.min(len)), "{want} of {len}");
                assert!(chosen.iter().all(|pick| pick.position < groups[pick.group].len), "{want} of {len}");
            }
        }
    }

    #[test]
    fn a_list_has_no_more_than_a_few_of_those_who_came_together() {
        // Each run lies in a part of its own, so two of them meet at most now and then.
        let groups = [group("a", false, 1_000)];
        let longest = |seed| {
            let mut positions: Vec<usize> =
                choose(&groups, asker(None, 50), &mut rng(seed)).iter().map(|pick| pick.position).collect();
            positions.sort_unstable();
            positions.chunk_by(|a, b| b - a == 1).map(<[_]>::len).max()
        };
        assert!((0..1_000).all(|seed| longest(seed) <= Some(2 * RUN)), "no run of three");
    }

    #[test]
    fn the_same_randomness_gives_the_same_list() {
        let groups = [group("a", false, 100), group("b", true, 100)];
        for zone in [None, Some("a")] {
            let once = choose(&groups, asker(zone, 50), &mut rng(7));
            assert_eq!(once, choose(&groups, asker(zone, 50), &mut rng(7)));
            assert_ne!(once, choose(&groups, asker(zone, 50), &mut rng(8)));
        }
    }

    #[test]
    fn a_zone_with_few_peers_is_topped_up() {
        let groups = [group("a", false, 3), group("b", false, 100)];
        let chosen = choose(&groups, asker(Some("a"), 50), &mut rng(1));
        assert_eq!(chosen.len(), SHORT_LIST, "no more from afar than makes a short list");
        let first = choose(&groups[1..], asker(Some("a"), 50), &mut rng(1));
        assert_eq!(first.len(), 25, "the first of a zone gets half a list");
    }

    #[test]
    fn all_are_handed_out_when_they_are_few() {
        let groups =
            [group("a", false, 2), group("b", true, 1), Group { zone: None, seeding: false, len: 1 }];
        for zone in [None, Some("a"), Some("b"), Some("c")] {
            let mut chosen = choose(&groups, asker(zone, 50), &mut rng(1));
            chosen.sort_unstable();
            let places: Vec<_> = chosen.iter().map(|pick| (pick.group, pick.position)).collect();
            assert_eq!(places, [(0, 0), (0, 1), (1, 0), (2, 0)], "{zone:?}");
        }
    }

    #[test]
    fn seeds_get_no_seeds() {
        let groups = [group("a", true, 3), group("a", false, 1)];
        let seed = Asker { seeding: true, ..asker(Some("a"), 50) };
        assert_eq!(choose(&groups, seed, &mut rng(1)), [Pick { group: 1, position: 0 }]);
    }

    #[test]
    fn leechers_get_seeds_beside_the_quota() {
        let groups = [group("a", false, 1000), group("b", true, 1), group("a", true, 1)];
        for seed in 0..50 {
            let chosen = choose(&groups, asker(Some("a"), 30), &mut rng(seed));
            assert_eq!(chosen.len(), 30);
            assert_eq!((of_group(&chosen, 1), of_group(&chosen, 2)), (1, 1), "{chosen:?}");
        }
        assert_eq!(choose(&groups, asker(Some("a"), 1), &mut rng(1)).len(), 1);
        assert!(choose(&groups, asker(Some("a"), 0), &mut rng(1)).is_empty());
    }

    #[test]
    fn a_stalled_leecher_gets_a_list_without_regard_to_zones() {
        let groups = [group("a", false, 100), group("b", false, 100)];
        let stalled = Asker { stalled: true, ..asker(Some("a"), 50) };
        let far = of_group(&choose(&groups, stalled, &mut rng(3)), 1);
        assert!((10..40).contains(&far), "{far}");
    }

    /// 3 zones of 160 nodes, one seed. Everybody announces once on joining. Each round a third of those that lack the data take it
    /// from any peer that they are connected to, as clients do that know nothing of zones. Answers whether all finished, and how
    /// many copies came into a zone that is not the seed's, on average.
    fn flood(zoned: bool, seed: u64) -> (bool, usize) {
        const NODES: usize = 480;
        let names = ["a", "b", "c"];
        let mut rng = rng(seed);
        let mut links: Vec<Vec<usize>> = vec![Vec::new(); NODES];
        let mut order: Vec<usize> = (0..NODES).collect();
        order[1..].shuffle(&mut rng);
        let mut members: [Vec<usize>; 3] = Default::default();
        for node in order {
            let groups: Vec<Group<'_>> =
                members.iter().zip(names).map(|(peers, zone)| group(zone, false, peers.len())).collect();
            let zone = zoned.then_some(names[node % 3]);
            for pick in choose(&groups, asker(zone, 30), &mut rng) {
                let peer = members[pick.group][pick.position];
                links[node].push(peer);
                links[peer].push(node);
            }
            members[node % 3].push(node);
        }
        let (mut has, mut crossed) = (vec![false; NODES], 0);
        has[0] = true;
        for _ in 0..100 {
            let before = has.clone();
            for node in (0..NODES).filter(|&node| !before[node]) {
                let sources: Vec<usize> = links[node].iter().copied().filter(|&peer| before[peer]).collect();
                if let Some(&source) = sources.choose(&mut rng)
                    && rng.random_ratio(1, 3)
                {
                    has[node] = true;
                    crossed += usize::from(source % 3 != node % 3 && node % 3 != 0);
                }
            }
        }
        (has.into_iter().all(|has| has), crossed / 2)
    }

    #[test]
    fn simulation_all_480_finish_and_a_zone_of_160_takes_a_fifth_of_its_copies_from_afar() {
        const RUNS: usize = 20;
        let mean = |zoned| {
            let runs: Vec<_> = (0..RUNS as u64).map(|seed| flood(zoned, seed)).collect();
            assert!(runs.iter().all(|(finished, _)| *finished));
            runs.iter().map(|(_, crossed)| crossed).sum::<usize>() / RUNS
        };
        let (zoned, random) = (mean(true), mean(false));
        assert!(zoned <= 160 / 5 && random >= 3 * zoned, "{zoned} by zones, {random} by chance");
    }
}
