//! What the operator counts.

use daemon::Health;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of a counter of outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// What was done.
    pub what: &'static str,
    /// `ok`, or why not.
    pub result: &'static str,
}

/// The operator's metrics. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// 1 while this process leads.
    pub leading: Gauge,
    /// Looks at classes and Distributions.
    pub reconciles: Family<Outcome, Counter>,
    /// Requests to the API for sidecars.
    pub requests: Family<Outcome, Counter>,
    /// Tries to resolve a source.
    pub resolves: Family<Outcome, Counter>,
    /// Rounds with a tracker.
    pub tracker_rounds: Family<Outcome, Counter>,
    /// Grants that run.
    pub grants: Gauge,
}

impl Metrics {
    /// Metrics that show up under `/metrics`.
    pub fn new(health: &Health) -> Self {
        let metrics = Self::default();
        health.metrics(|registry| metrics.register(registry));
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("leading", "1 while this process leads", self.leading.clone());
        registry.register("reconciles", "Looks at classes and Distributions", self.reconciles.clone());
        registry.register("api_requests", "Requests of sidecars", self.requests.clone());
        registry.register("resolves", "Tries to resolve a source", self.resolves.clone());
        registry.register("tracker_rounds", "Rounds with a tracker", self.tracker_rounds.clone());
        registry.register("grants", "Fetchers that hold a grant", self.grants.clone());
    }
}

/// Adds one to the outcome of something.
pub fn count(family: &Family<Outcome, Counter>, what: &'static str, result: &'static str) {
    family.get_or_create(&Outcome { what, result }).inc();
}
