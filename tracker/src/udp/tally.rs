//! What a tracker over UDP counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::responder::Outcome;
use crate::directory::Refusal;

/// Label of what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    answer: &'static str,
}

/// Label of what was not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What one worker has counted since it handed it over: workers share counters, and should not do so for each packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    malformed: u64,
    unproven: u64,
    connected: u64,
    announced: u64,
    unlisted: u64,
    scraped: u64,
    rejected: u64,
    unknown: u64,
    full: u64,
    busy: u64,
    pub(super) unsent: u64,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Malformed => &mut self.malformed,
            Outcome::Unproven => &mut self.unproven,
            Outcome::Connected => &mut self.connected,
            Outcome::Announced { listed } => {
                self.unlisted += u64::from(!listed);
                &mut self.announced
            }
            Outcome::Scraped => &mut self.scraped,
            Outcome::Refused(Refusal::Full | Refusal::Crowded) => &mut self.full,
            Outcome::Refused(Refusal::Busy) => &mut self.busy,
            // Over UDP nobody is a node, so that the refusals of nodes do not occur.
            Outcome::Refused(Refusal::UnknownTorrent | Refusal::UnknownNode | Refusal::NoAddress) => {
                &mut self.unknown
            }
            Outcome::Rejected => &mut self.rejected,
        };
        *count += 1;
    }
}

/// The counters of a tracker that UDP shares with HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) announces: Counter,
    pub(crate) unlisted: Counter,
    pub(crate) scrapes: Counter,
    pub(crate) rejected_query: Counter,
    pub(crate) rejected_torrent: Counter,
    pub(crate) rejected_full: Counter,
    pub(crate) rejected_busy: Counter,
}

/// The counters that workers hand their tallies over to. Each is held, since to look one up in a family takes a lock.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    shared: Shared,
    answers: Family<Answer, Counter>,
    dropped: Family<Reason, Counter>,
    connected: Counter,
    announced: Counter,
    scraped: Counter,
    errors: Counter,
    malformed: Counter,
    unproven: Counter,
    unsent: Counter,
}

impl Counters {
    pub(crate) fn new(shared: Shared) -> Self {
        let (answers, dropped) = (Family::<Answer, Counter>::default(), Family::<Reason, Counter>::default());
        let answer = |answer| answers.get_or_create_owned(&Answer { answer });
        let reason = |reason| dropped.get_or_create_owned(&Reason { reason });
        Counters {
            shared,
            connected: answer("connect"),
            announced: answer("announce"),
            scraped: answer("scrape"),
            errors: answer("error"),
            malformed: reason("malformed"),
            unproven: reason("connection_id"),
            unsent: reason("send"),
            answers,
            dropped,
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("udp_answers", "Packets that were answered over UDP", self.answers.clone());
        registry.register("udp_dropped", "Packets that were not answered over UDP", self.dropped.clone());
    }

    /// Takes over what was counted; the tally begins anew.
    pub(super) fn take(&self, tally: &mut Tally) {
        let Tally {
            malformed,
            unproven,
            connected,
            announced,
            unlisted,
            scraped,
            rejected,
            unknown,
            full,
            busy,
            unsent,
        } = std::mem::take(tally);
        for (counter, count) in [
            (&self.malformed, malformed),
            (&self.unproven, unproven),
            (&self.connected, connected),
            (&self.announced, announced),
            (&self.shared.announces, announced),
            (&self.shared.unlisted, unlisted),
            (&self.scraped, scraped),
            (&self.shared.scrapes, scraped),
            (&self.errors, rejected + unknown + full + busy),
            (&self.shared.rejected_query, rejected),
            (&self.shared.rejected_torrent, unknown),
            (&self.shared.rejected_full, full),
            (&self.shared.rejected_busy, busy),
            (&self.unsent, unsent),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }
}
