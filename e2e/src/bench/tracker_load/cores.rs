//! One core for the tracker, and one for what loads it.

use anyhow::{Context as _, Result, ensure};

/// Both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    /// The tracker's.
    pub server: usize,
    /// That of what loads it.
    pub client: usize,
}

impl Cores {
    /// The first and the last that we may use: they are not threads of the same core on any machine that has more than one.
    pub fn choose() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Self::parse(list.context("/proc/self/status names no cores")?)
    }

    /// `0-3,8`, as cpuset(7) writes it.
    fn parse(allowed: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse::<usize>().with_context(|| format!("cores {allowed:?}"));
        let first = allowed.split([',', '-']).next().unwrap_or_default();
        let last = allowed.rsplit([',', '-']).next().unwrap_or_default();
        let (server, client) = (number(first)?, number(last)?);
        ensure!(server != client, "a tracker and its load need a core each, and there is one only");
        Ok(Self { server, client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_are_two() {
        let Cores { server, client } = Cores::parse("\t0-3,8").unwrap();
        assert_eq!((server, client), (0, 8));
        let Cores { server, client } = Cores::parse("2-3").unwrap();
        assert_eq!((server, client), (2, 3));
        assert!(Cores::parse("1").is_err());
        assert!(Cores::parse("").is_err());
    }
}
