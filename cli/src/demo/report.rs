//! What came out of it: a table for people, or JSON.

use std::time::Duration;

use serde::Serialize;

use crate::{output, units};

/// One node's row.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// The node.
    pub node: String,
    /// Payload bytes that it read from the origin.
    pub origin_bytes: u64,
    /// Payload bytes that it got from peers.
    pub peer_bytes: u64,
    /// Seconds from `apply` until the node said that it has everything; absent if it never did.
    pub seconds: Option<f64>,
    /// Whether the files on its disk have the origin's bytes.
    pub verified: bool,
    /// Why they have not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// In the order of their numbers.
    pub nodes: Vec<NodeReport>,
    /// Payload bytes of one copy.
    pub bytes: u64,
    /// Files of one copy.
    pub files: usize,
    /// Seconds from `apply` until the last node was ready; absent if one never was.
    pub seconds: Option<f64>,
    /// Seconds of one plain GET of the same bytes.
    pub plain_get_seconds: f64,
    /// The first divided by the second.
    pub time_to_ideal: Option<f64>,
    /// Payload bytes that the origin gave to all nodes together.
    pub origin_bytes: u64,
    /// The same divided by `bytes`.
    pub origin_copies: Option<f64>,
    /// Whether every node is.
    pub verified: bool,
}

impl Report {
    /// From the rows.
    pub fn new(
        nodes: Vec<NodeReport>,
        bytes: u64,
        files: usize,
        plain_get: Duration,
        origin_bytes: u64,
    ) -> Self {
        let all: Option<Vec<f64>> = nodes.iter().map(|node| node.seconds).collect();
        let seconds = all.and_then(|all| all.into_iter().reduce(f64::max));
        let plain_get_seconds = plain_get.as_secs_f64();
        Self {
            verified: nodes.iter().all(|node| node.verified),
            time_to_ideal: seconds.filter(|_| bytes > 0).map(|seconds| seconds / plain_get_seconds),
            origin_copies: (bytes > 0).then(|| origin_bytes as f64 / bytes as f64),
            nodes,
            bytes,
            files,
            seconds,
            plain_get_seconds,
            origin_bytes,
        }
    }

    /// For people. Numbers are right-aligned, as numbers are.
    pub fn table(&self) -> String {
        let width = self.nodes.iter().map(|node| node.node.len()).max().unwrap_or_default().max(4);
        let mut lines = vec![format!(
            "{:<width$}  {:>11}  {:>10}  {:>7}  SHA256",
            "NODE", "FROM ORIGIN", "FROM PEERS", "SECONDS"
        )];
        for node in &self.nodes {
            let seconds = node.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"));
            let mut line = format!(
                "{:<width$}  {:>11}  {:>10}  {seconds:>7}  {}",
                node.node,
                units::bytes(node.origin_bytes),
                units::bytes(node.peer_bytes),
                verdict(node.verified),
            );
            if let Some(problem) = &node.problem {
                line.extend([": ", problem]);
            }
            lines.push(line);
        }
        lines.push(String::new());
        lines.push(self.totals());
        lines.join("\n")
    }

    fn totals(&self) -> String {
        let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let took =
            self.seconds.map_or_else(|| "not finished".to_owned(), |seconds| format!("{seconds:.1} s"));
        format!(
            "{} in {} file(s) on {} node(s): {took}, one plain GET {:.1} s, time/ideal {}\n\
             the origin gave {}, origin bytes/size {}",
            units::bytes(self.bytes),
            self.files,
            self.nodes.len(),
            self.plain_get_seconds,
            ratio(self.time_to_ideal),
            units::bytes(self.origin_bytes),
            ratio(self.origin_copies),
        )
    }
}

fn verdict(verified: bool) -> &'static str {
    match (verified, output::is_coloured()) {
        (true, false) => "verified",
        (false, false) => "NOT VERIFIED",
        (true, true) => "\u{1b}[32mverified\u{1b}[0m",
        (false, true) => "\u{1b}[31mNOT VERIFIED\u{1b}[0m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, seconds: Option<f64>) -> NodeReport {
        let verified = seconds.is_some();
        NodeReport { node: name.into(), origin_bytes: 0, peer_bytes: 5, seconds, verified, problem: None }
    }

    #[test]
    fn totals_are_of_all_nodes() {
        let nodes = vec![node("a", Some(1.0)), node("b", Some(3.0))];
        let report = Report::new(nodes.clone(), 10, 1, Duration::from_secs(2), 11);
        assert!(report.verified);
        assert_eq!(report.time_to_ideal, Some(1.5));
        assert_eq!(report.origin_copies, Some(1.1));
        let nodes = [nodes, vec![node("c", None)]].concat();
        let report = Report::new(nodes, 10, 1, Duration::from_secs(2), 11);
        assert!(!report.verified && report.seconds.is_none());
        assert!(report.table().contains("not finished"));
    }
}
