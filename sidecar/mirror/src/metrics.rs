//! What the mirror counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What was asked for, and the status of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    /// `manifest`, `blob` or `other`.
    kind: &'static str,
    /// The HTTP status.
    code: u16,
}

/// Counters of one mirror since its start.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    bytes: Counter,
    stalls: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "mirror_requests",
            "Requests of the container runtime by what was asked for and status",
            self.requests.clone(),
        );
        registry.register(
            "mirror_bytes",
            "Bytes of blobs given to the container runtime",
            self.bytes.clone(),
        );
        registry.register(
            "mirror_stalls",
            "Answers that ended early because the next byte did not arrive",
            self.stalls.clone(),
        );
    }

    pub(crate) fn answered(&self, kind: &'static str, code: u16) {
        self.requests.get_or_create(&Request { kind, code }).inc();
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }

    pub(crate) fn stalled(&self) {
        self.stalls.inc();
    }

    /// Answers that ended early since the start.
    pub fn stalls(&self) -> u64 {
        self.stalls.get()
    }
}
