//! Which peers an announce is answered with. Pure: peers and randomness come in, a choice goes out.
//!
//! A node gets peers of its own zone first, and a share of others: a swarm in which everybody knows only neighbours falls
//! apart (in a simulation of 480 nodes in 3 zones, 160 finished), and a list that pays no heed to zones copies everything
//! between zones as often as there are nodes. Two remote peers of thirty gave one and a half times the least traffic.

use std::collections::HashSet;

use rand::Rng;
use rand::seq::{SliceRandom, index};

/// Lists shorter than this are filled up with peers of other zones.
const SHORT_LIST: usize = 10;
/// Remote peers in a list, at least.
const MIN_REMOTE: usize = 2;
/// One peer in so many is remote in long lists: 10 %.
const REMOTE_SHARE: usize = 10;
/// Complete peers that a list for a leecher has at least, if there are so many; a short list has one.
const MIN_SEEDS: usize = 2;

/// Peers of one zone that are alike in being complete or not.
#[derive(Debug)]
pub struct Group<'p, P> {
    /// The zone; strangers and nodes without one have none.
    pub zone: Option<&'p str>,
    /// Whether they have everything.
    pub seeding: bool,
    /// In any order.
    pub peers: &'p [P],
}

// Not derived: that would ask for peers that can be copied.
impl<P> Clone for Group<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Group<'_, P> {}

/// Who asks. It must not be among the peers.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'p> {
    /// Its zone, if known.
    pub zone: Option<&'p str>,
    /// Whether it has everything: then it gets no seeds.
    pub seeding: bool,
    /// Whether zones shall be passed over this once, since its download does not move.
    pub stalled: bool,
    /// Peers at most.
    pub want: usize,
}

/// Chooses peers for `asker`, in random order and each at most once.
pub fn choose<'p, P>(groups: &[Group<'p, P>], asker: Asker<'_>, rng: &mut impl Rng) -> Vec<&'p P> {
    let useful: Vec<Group<'p, P>> =
        groups.iter().copied().filter(|group| !(asker.seeding && group.seeding)).collect();
    let (near, far): (Vec<_>, Vec<_>) = match asker.zone {
        Some(zone) if !asker.stalled => useful.iter().copied().partition(|group| group.zone == Some(zone)),
        // Without a zone all are equally far, and there is no quota to keep.
        _ => (useful.clone(), Vec::new()),
    };
    let remote = remote_share(asker.want, count(&near)).min(count(&far));
    let mut chosen = sample(&near, asker.want - remote, rng);
    chosen.extend(sample(&far, remote, rng));
    if !asker.seeding {
        ensure_seeds(&mut chosen, &near, &far, asker.want, rng);
    }
    chosen.shuffle(rng);
    chosen.into_iter().map(|choice| choice.peer).collect()
}

/// A chosen peer, and whether it is complete.
struct Choice<'p, P> {
    peer: &'p P,
    seeding: bool,
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

fn count<P>(groups: &[Group<'_, P>]) -> usize {
    groups.iter().map(|group| group.peers.len()).sum()
}

/// `amount` peers of all groups together, each with the same chance.
fn sample<'p, P>(groups: &[Group<'p, P>], amount: usize, rng: &mut impl Rng) -> Vec<Choice<'p, P>> {
    let total = count(groups);
    index::sample(rng, total, amount.min(total))
        .into_iter()
        .filter_map(|position| at(groups, position))
        .collect()
}

fn at<'p, P>(groups: &[Group<'p, P>], mut position: usize) -> Option<Choice<'p, P>> {
    for group in groups {
        if let Some(peer) = group.peers.get(position) {
            return Some(Choice { peer, seeding: group.seeding });
        }
        position -= group.peers.len();
    }
    None
}

/// A leecher that knows only leechers may wait for all of them: seeds replace others until there are enough, the nearest
/// first. A seed in place of the remote peers would break the swarm again, so those go last (they stand at the end).
fn ensure_seeds<'p, P>(
    chosen: &mut Vec<Choice<'p, P>>,
    near: &[Group<'p, P>],
    far: &[Group<'p, P>],
    want: usize,
    rng: &mut impl Rng,
) {
    let had = chosen.iter().filter(|choice| choice.seeding).count();
    let wanted = if want < 2 * SHORT_LIST { want.min(1) } else { MIN_SEEDS };
    let mut missing = wanted.saturating_sub(had);
    let present: HashSet<*const P> = chosen.iter().map(|choice| std::ptr::from_ref(choice.peer)).collect();
    for groups in [near, far] {
        let seeds: Vec<Group<'p, P>> = groups.iter().copied().filter(|group| group.seeding).collect();
        // As many more as are already there, since these may be drawn again.
        for seed in sample(&seeds, missing + had, rng) {
            if missing == 0 || present.contains(&std::ptr::from_ref(seed.peer)) {
                continue;
            }
            if chosen.len() >= want {
                let Some(replaced) = chosen.iter().position(|choice| !choice.seeding) else { return };
                chosen.remove(replaced);
            }
            chosen.push(seed);
            missing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn asker(zone: Option<&str>, want: usize) -> Asker<'_> {
        Asker { zone, seeding: false, stalled: false, want }
    }

    fn group<'p>(zone: &'p str, seeding: bool, peers: &'p [u32]) -> Group<'p, u32> {
        Group { zone: Some(zone), seeding, peers }
    }

    #[test]
    fn a_list_is_near_with_a_remote_share() {
        let (a, b): (Vec<u32>, Vec<u32>) = ((0..100).collect(), (100..200).collect());
        let groups = [group("a", false, &a), group("b", false, &b)];
        for seed in 0..50 {
            let chosen = choose(&groups, asker(Some("a"), 50), &mut StdRng::seed_from_u64(seed));
            assert_eq!(chosen.len(), 50);
            assert_eq!(chosen.iter().filter(|&&&peer| peer >= 100).count(), 5);
            assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), 50, "nobody comes twice");
            let short = choose(&groups, asker(Some("a"), 12), &mut StdRng::seed_from_u64(seed));
            assert_eq!(short.iter().filter(|&&&peer| peer >= 100).count(), 2);
        }
    }

    #[test]
    fn lists_differ_from_one_another() {
        let peers: Vec<u32> = (0..1000).collect();
        let mut seen: HashSet<&u32> = HashSet::new();
        for seed in 0..200 {
            seen.extend(choose(
                &[group("a", false, &peers)],
                asker(None, 50),
                &mut StdRng::seed_from_u64(seed),
            ));
        }
        assert_eq!(seen.len(), 1000, "everybody is handed out");
    }

    #[test]
    fn a_zone_with_few_peers_is_topped_up() {
        let (a, b): (Vec<u32>, Vec<u32>) = ((0..3).collect(), (100..200).collect());
        let groups = [group("a", false, &a), group("b", false, &b)];
        let chosen = choose(&groups, asker(Some("a"), 50), &mut StdRng::seed_from_u64(1));
        assert_eq!(chosen.len(), SHORT_LIST, "no more from afar than makes a short list");
        let first = choose(&groups[1..], asker(Some("a"), 50), &mut StdRng::seed_from_u64(1));
        assert_eq!(first.len(), 25, "the first of a zone gets half a list");
    }

    #[test]
    fn all_are_handed_out_when_they_are_few() {
        let groups = [
            group("a", false, &[1, 2]),
            group("b", true, &[3]),
            Group { zone: None, seeding: false, peers: &[4] },
        ];
        for zone in [None, Some("a"), Some("b"), Some("c")] {
            let mut chosen: Vec<u32> = choose(&groups, asker(zone, 50), &mut StdRng::seed_from_u64(1))
                .into_iter()
                .copied()
                .collect();
            chosen.sort_unstable();
            assert_eq!(chosen, [1, 2, 3, 4], "{zone:?}");
        }
    }

    #[test]
    fn seeds_get_no_seeds() {
        let groups = [group("a", true, &[1, 2, 3]), group("a", false, &[4])];
        let seed = Asker { seeding: true, ..asker(Some("a"), 50) };
        assert_eq!(choose(&groups, seed, &mut StdRng::seed_from_u64(1)), [&4]);
    }

    #[test]
    fn leechers_get_seeds_beside_the_quota() {
        let leechers: Vec<u32> = (0..1000).collect();
        let groups = [group("a", false, &leechers), group("b", true, &[5000]), group("a", true, &[4000])];
        for seed in 0..50 {
            let chosen = choose(&groups, asker(Some("a"), 30), &mut StdRng::seed_from_u64(seed));
            assert_eq!(chosen.len(), 30);
            assert!(chosen.contains(&&4000) && chosen.contains(&&5000), "{chosen:?}");
        }
        assert_eq!(choose(&groups, asker(Some("a"), 1), &mut StdRng::seed_from_u64(1)).len(), 1);
        assert!(choose(&groups, asker(Some("a"), 0), &mut StdRng::seed_from_u64(1)).is_empty());
    }

    #[test]
    fn a_stalled_leecher_gets_a_list_without_regard_to_zones() {
        let (a, b): (Vec<u32>, Vec<u32>) = ((0..100).collect(), (100..200).collect());
        let groups = [group("a", false, &a), group("b", false, &b)];
        let stalled = Asker { stalled: true, ..asker(Some("a"), 50) };
        let far = choose(&groups, stalled, &mut StdRng::seed_from_u64(3))
            .into_iter()
            .filter(|&&peer| peer >= 100)
            .count();
        assert!((10..40).contains(&far), "{far}");
    }

    /// 3 zones of 80 nodes, one seed. Everybody announces once on joining; each round every node that lacks the data takes it
    /// from a peer it is connected to, from a near one if one has it. Answers how many finished and how many copies crossed.
    fn flood(zoned: bool, seed: u64) -> (usize, usize) {
        const NODES: usize = 240;
        let names = ["a", "b", "c"];
        let mut rng = StdRng::seed_from_u64(seed);
        let mut links: Vec<HashSet<usize>> = vec![HashSet::new(); NODES];
        let mut order: Vec<usize> = (0..NODES).collect();
        order[1..].shuffle(&mut rng);
        let mut members: [Vec<usize>; 3] = Default::default();
        for node in order {
            let groups: Vec<Group<'_, usize>> = members
                .iter()
                .zip(names)
                .map(|(peers, zone)| Group { zone: Some(zone), seeding: false, peers })
                .collect();
            let zone = zoned.then_some(names[node % 3]);
            for &peer in choose(&groups, asker(zone, 30), &mut rng) {
                links[node].insert(peer);
                links[peer].insert(node);
            }
            members[node % 3].push(node);
        }
        let mut has = vec![false; NODES];
        has[0] = true;
        let mut crossed = 0;
        for _ in 0..NODES {
            let before = has.clone();
            for node in 0..NODES {
                let mut sources = links[node].iter().filter(|&&peer| before[peer]).peekable();
                if before[node] || sources.peek().is_none() {
                    continue;
                }
                has[node] = true;
                crossed += usize::from(!sources.any(|peer| peer % 3 == node % 3));
            }
        }
        (has.into_iter().filter(|&has| has).count(), crossed)
    }

    #[test]
    fn simulation_everybody_finishes_and_little_crosses_zones() {
        for seed in 0..5 {
            let (finished, crossed) = flood(true, seed);
            let (finished_random, crossed_random) = flood(false, seed);
            assert_eq!((finished, finished_random), (240, 240));
            assert!(
                2 * crossed <= crossed_random,
                "{crossed} and {crossed_random} of 239 copies crossed with seed {seed}"
            );
        }
    }
}
