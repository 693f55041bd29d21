//! Many lanes at once, from one thread that never sleeps: a timer of the system would be coarser than what is measured.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::lane::Lane;
use super::message::{SCRAPE_LENGTH, refusal, scraped};
use super::{Population, Protocol, Tally, Target};

/// Lanes that announce at the same time: as many as aquatic's HTTP tester has.
const LANES: u32 = 128;
/// A datagram that is not there by then is lost.
const LOST: Duration = Duration::from_secs(1);
/// On a connection nothing is lost; one that is silent for so long is broken.
const BROKEN: Duration = Duration::from_secs(30);
/// A datagram may be lost; a tracker that answers none of so many is not there.
pub(super) const TRIES: u32 = 5;

/// A lane, the peers that it speaks for, and since when it waits for an answer.
struct Busy {
    lane: Lane,
    block: std::ops::Range<u32>,
    next: u32,
    since: Option<Instant>,
    asked: Instant,
}

impl Busy {
    fn open(target: Target, population: &Population, block: u32) -> Result<Self> {
        let lane = Lane::open(target.protocol, target.server, Population::source(block))?;
        let block = population.block(block);
        Ok(Self { lane, next: block.start, block, since: None, asked: Instant::now() })
    }

    /// Announces the next peer. `due`: from when its answer is waited for.
    fn ask(&mut self, population: &Population, due: Instant) -> Result<()> {
        self.lane.announce(&population.announce(self.next))?;
        self.next += 1;
        (self.since, self.asked) = (Some(due), Instant::now());
        Ok(())
    }

    /// Begins with the first peer again.
    fn again(&mut self) {
        if self.next == self.block.end {
            self.next = self.block.start;
        }
    }

    fn hear(&mut self, target: Target, tally: &mut Tally) -> Result<()> {
        let Some(since) = self.since else { return Ok(()) };
        if let Some(answer) = self.lane.poll()? {
            tally.latencies.push(since.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
            match refusal(target.protocol, answer) {
                None => tally.served += 1,
                Some(why) => {
                    tally.refused += 1;
                    tally.refusal.get_or_insert(why);
                }
            }
            self.since = None;
        } else if target.protocol == Protocol::Udp && self.asked.elapsed() > LOST {
            tally.lost += 1;
            self.since = None;
        } else {
            ensure!(self.asked.elapsed() < BROKEN, "an announce was not answered within {BROKEN:?}");
        }
        Ok(())
    }
}

/// Announces every peer of a population once, as fast as the tracker answers.
pub fn fill(target: Target, population: &Population) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut blocks = 0..population.blocks();
    let mut lanes = blocks
        .by_ref()
        .take(LANES as usize)
        .map(|block| Busy::open(target, population, block))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    while !lanes.is_empty() {
        for lane in &mut lanes {
            lane.hear(target, &mut tally)?;
            if lane.since.is_none()
                && lane.next == lane.block.end
                && let Some(block) = blocks.next()
            {
                *lane = Busy::open(target, population, block)?;
            }
            if lane.since.is_none() && lane.next < lane.block.end {
                lane.ask(population, Instant::now())?;
            }
        }
        lanes.retain(|lane| lane.since.is_some());
    }
    tally.end(start)
}

/// Announces peers of a population again for a time: at a rate, whatever the tracker does, or else as fast as it answers. What had
/// to wait for a lane waits from the moment at which it was due.
pub fn again(target: Target, population: &Population, rate: Option<f64>, time: Duration) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut lanes = Vec::new();
    for number in 0..LANES {
        let mut lane = Busy::open(target, population, number % population.blocks())?;
        // Where several speak for the same peers, each begins with another.
        lane.next += number % lane.block.len() as u32;
        lanes.push(lane);
    }
    let start = Instant::now();
    let due =
        |sent: u32, now| rate.map_or(now, |rate| start + Duration::from_secs_f64(f64::from(sent) / rate));
    let mut sent = 0;
    loop {
        let mut waiting = false;
        for lane in &mut lanes {
            lane.hear(target, &mut tally)?;
            let now = Instant::now();
            let due = due(sent, now);
            if lane.since.is_none() && due <= now && now < start + time {
                lane.again();
                lane.ask(population, due)?;
                sent += 1;
            }
            waiting |= lane.since.is_some();
        }
        if !waiting && start.elapsed() >= time {
            return tally.end(start);
        }
    }
}

/// How many peers of a population the tracker says that it has.
pub fn count(target: Target, population: &Population) -> Result<u64> {
    let mut lane = Lane::open(target.protocol, target.server, Population::source(0))?;
    let mut all = 0;
    for some in population.hashes().chunks(SCRAPE_LENGTH) {
        all += scrape(target, &mut lane, some)?;
    }
    Ok(all)
}

fn scrape(target: Target, lane: &mut Lane, hashes: &[[u8; 20]]) -> Result<u64> {
    let (tries, patience) = match target.protocol {
        Protocol::Udp => (TRIES, LOST),
        Protocol::Http => (1, BROKEN),
    };
    for _ in 0..tries {
        lane.scrape(hashes)?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(answer) = lane.poll()? {
                return scraped(target.protocol, answer);
            }
        }
    }
    bail!("no scrape was answered")
}
