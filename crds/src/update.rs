//! Whether a `Distribution` follows what its source points to.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often a source that is followed is asked, if nothing is said.
const USUAL: &str = "10m";
/// No more often than this, whatever is written: the API server lets nothing below a minute through.
const SHORTEST: Duration = Duration::from_secs(1);
/// No less often than this.
const LONGEST: Duration = Duration::from_hours(24);

/// What becomes of a `Distribution` when its source points to something else.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// `Pinned`: nothing, until `source` is edited. `Track`: it is asked every `interval`, and what is another is another revision.
    #[serde(default, rename = "type")]
    pub kind: UpdateType,
    /// How often a source that is followed is asked: `10m`, `1h30m`; from a minute to a day, give or take a tenth.
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('24h')").message("interval is from 1m to 24h"))]
    #[serde(default = "usual")]
    pub interval: String,
}

impl Default for Update {
    fn default() -> Self {
        Self { kind: UpdateType::Pinned, interval: usual() }
    }
}

fn usual() -> String {
    USUAL.to_owned()
}

impl Update {
    /// How often the source is asked; `None` if it is not followed.
    pub fn every(&self) -> Option<Duration> {
        let written = || parse_interval(&self.interval).or_else(|| parse_interval(USUAL));
        let every = written().filter(|_| self.kind == UpdateType::Track)?;
        Some(every.clamp(SHORTEST, LONGEST))
    }
}

/// Whether a source is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateType {
    /// What was found once stays.
    #[default]
    Pinned,
    /// What the source points to now.
    Track,
}

/// Hours, minutes and seconds in whole numbers, each once at most and in this order: `1h30m`. None if it is something else.
fn parse_interval(text: &str) -> Option<Duration> {
    let (mut rest, mut seconds) = (text, 0u64);
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, tail)) = rest.split_once(unit) {
            seconds = number.parse::<u64>().ok()?.checked_mul(length)?.checked_add(seconds)?;
            rest = tail;
        }
    }
    (rest.is_empty() && !text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn intervals_are_read() {
        for (text, seconds) in
            [("10m", 600), ("1h30m", 5400), ("90s", 90), ("24h", 86_400), ("1h0m5s", 3605), ("007m", 420)]
        {
            assert_eq!(parse_interval(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "10", "m", "1.5h", "-1m", "1m1h", "1m1m", "10m ", "1d", "99999999999999999h"] {
            assert_eq!(parse_interval(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_tracked_is_asked_again_and_once_a_day_at_least() {
        let every = |update: serde_json::Value| from_value::<Update>(update).unwrap().every();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(every(json!({})), None);
        assert_eq!(every(json!({"interval": "1m"})), None);
        assert_eq!(every(json!({"type": "Track"})), seconds(600));
        for (written, meant) in [("1m", 60), ("90m", 5400), ("0s", 1), ("99h", 86_400), ("soon", 600)] {
            assert_eq!(every(json!({"type": "Track", "interval": written})), seconds(meant), "{written}");
        }
    }
}
