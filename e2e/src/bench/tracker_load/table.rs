//! A load report as tables: medians of the runs that count, and the values of all.

use std::fmt;

use super::report::{Counts, Full, Half, LoadReport, Rows, Size};
use crate::bench::report::median;

const MIB: f64 = 1_048_576.0;

/// A figure of some runs.
struct Figure {
    /// The median of the runs that count; `-` if none does.
    median: String,
    /// All values; those of runs that do not count have a star.
    all: String,
}

impl Figure {
    fn of<T: Counts>(runs: &[T], value: impl Fn(&T) -> f64) -> Self {
        let counted: Vec<f64> = runs.iter().filter(|run| run.counts()).map(&value).collect();
        let median = if counted.is_empty() { "-".to_owned() } else { format!("{:.0}", median(counted)) };
        let star = |run: &T| if run.counts() { "" } else { "*" };
        let all: Vec<String> = runs.iter().map(|run| format!("{:.0}{}", value(run), star(run))).collect();
        Self { median, all: all.join(" ") }
    }
}

/// The sum of a count over all runs.
fn sum<T>(runs: &[T], value: impl Fn(&T) -> u64) -> String {
    runs.iter().map(value).sum::<u64>().to_string()
}

/// A table: a title and the heads of columns, then a line for each tracker.
fn write(f: &mut fmt::Formatter<'_>, head: &[&str], lines: &[Vec<String>]) -> fmt::Result {
    let heads = head.iter().map(|cell| (*cell).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&heads).chain(lines).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    writeln!(f)
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; * is void", self.what)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        write_full(f, &self.full)?;
        write_half(f, &self.half)?;
        let mut shapes: Vec<_> =
            self.sizes.iter().flat_map(|(_, runs)| runs).map(|run| (run.peers, run.swarms)).collect();
        shapes.sort_unstable_by(|one, other| other.cmp(one));
        shapes.dedup();
        shapes.into_iter().try_for_each(|shape| write_sizes(f, &self.sizes, shape))
    }
}

fn write_full(f: &mut fmt::Formatter<'_>, rows: &Rows<Full>) -> fmt::Result {
    let line = |(name, runs): &(&str, Vec<Full>)| {
        let served = Figure::of(runs, |run| run.served);
        let per_cpu = Figure::of(runs, Full::per_cpu);
        let median = |value: fn(&Full) -> f64| Figure::of(runs, value).median;
        let (empty, memory) = (median(|run| run.empty as f64 / MIB), median(|run| run.memory as f64 / MIB));
        let refused = Figure::of(runs, |run| run.refused).all;
        vec![
            (*name).to_owned(),
            served.median,
            per_cpu.median,
            empty,
            memory,
            served.all,
            refused,
            per_cpu.all,
        ]
    };
    let head = [
        "full load",
        "responses/s",
        "per CPU-s",
        "MiB empty",
        "+ MiB",
        "all responses/s",
        "all refused/s",
        "all per CPU-s",
    ];
    write(f, &head, &rows.iter().map(line).collect::<Vec<_>>())
}

fn write_half(f: &mut fmt::Formatter<'_>, rows: &Rows<Half>) -> fmt::Result {
    let line = |(name, runs): &(&str, Vec<Half>)| {
        let p99 = Figure::of(runs, |run| f64::from(run.p99));
        let max = Figure::of(runs, |run| f64::from(run.max));
        let median = |value: fn(&Half) -> f64| Figure::of(runs, value).median;
        let (rate, served, p50) =
            (median(|run| run.rate), median(|run| run.served), median(|run| f64::from(run.p50)));
        let (refused, lost) = (sum(runs, |run| run.refused), sum(runs, |run| run.lost));
        vec![(*name).to_owned(), rate, served, p50, p99.median, max.median, refused, lost, p99.all, max.all]
    };
    let head = [
        "half load",
        "announces/s",
        "responses/s",
        "p50 us",
        "p99 us",
        "max us",
        "refused",
        "lost",
        "all p99",
        "all max",
    ];
    write(f, &head, &rows.iter().map(line).collect::<Vec<_>>())
}

fn write_sizes(f: &mut fmt::Formatter<'_>, rows: &Rows<Size>, shape: (u32, u32)) -> fmt::Result {
    let line = |(name, runs): &(&str, Vec<Size>)| {
        let runs: Vec<Size> = runs.iter().filter(|run| (run.peers, run.swarms) == shape).cloned().collect();
        let has = Figure::of(&runs, |run| run.counted as f64);
        let bytes = Figure::of(&runs, Size::per_peer);
        let served = Figure::of(&runs, |run| run.served);
        let per_cpu = Figure::of(&runs, |run| run.served / run.cpu);
        let (refused, lost) = (sum(&runs, |run| run.refused), sum(&runs, |run| run.lost));
        vec![
            (*name).to_owned(),
            bytes.median,
            served.median,
            per_cpu.median,
            refused,
            lost,
            has.all,
            bytes.all,
            served.all,
            per_cpu.all,
        ]
    };
    let title = format!("{} peers / {}", shape.0, shape.1);
    let head = [
        title.as_str(),
        "bytes/peer",
        "responses/s",
        "per CPU-s",
        "refused",
        "lost",
        "all it has",
        "all bytes/peer",
        "all responses/s",
        "all per CPU-s",
    ];
    write(f, &head, &rows.iter().map(line).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::announce::Protocol;
    use super::super::cores::Cores;
    use super::*;

    #[test]
    fn a_void_run_is_shown_and_does_not_count() {
        let mut report = LoadReport::new(Protocol::Udp, Cores { server: 0, client: 1 });
        for (name, served, others) in
            [("it", 100.0, 0.0), ("it", 900.0, 0.9), ("it", 300.0, 0.1), ("never", 5.0, 0.9)]
        {
            report.full(name, Full { served, refused: 1.0, cpu: 0.5, memory: 1 << 20, empty: 0, others });
        }
        let text = report.to_string();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let it = line("it ");
        let words: Vec<&str> = it.split_whitespace().collect();
        assert_eq!(words, "it 300 600 0 1 100 900* 300 1 1* 1 200 1800* 600".split(' ').collect::<Vec<_>>());
        assert!(line("never").split_whitespace().skip(1).all(|word| word == "-" || word.ends_with('*')));
    }
}
