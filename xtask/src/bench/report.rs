//! Medians, and the tables that are printed.

use std::collections::BTreeMap;

use crate::procfs::Usage;

/// The results of one run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// What was measured, per second.
    pub(super) rate: f64,
    /// The limit in the same run, in the same unit.
    pub(super) limit: f64,
    /// What each process used in the measured part.
    pub(super) processes: Vec<(&'static str, Usage)>,
}

/// The middle value; the mean of the two middle ones of an even number; 0 of none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

/// One line while the runs go on.
pub(super) fn run_line(number: u32, run: &Run, unit: &str, limit: &str) -> String {
    format!(
        "  run {number}: {:>9.0} {unit}/s   {:>9.0} {limit}/s   ratio {:.2}",
        run.rate,
        run.limit,
        run.rate / run.limit
    )
}

/// The medians, `more` lines about them, then each process.
pub(super) fn summary(title: &str, runs: &[Run], unit: &str, limit: &str, more: &[String]) -> String {
    let mut lines = vec![
        format!("{title}, medians of {} runs", runs.len()),
        format!("  {:>9.0} {unit}/s", median(runs.iter().map(|run| run.rate))),
        format!("  {:>9.0} {limit}/s, the limit", median(runs.iter().map(|run| run.limit))),
        format!("  {:>9.2} of the limit", median(runs.iter().map(|run| run.rate / run.limit))),
    ];
    lines.extend_from_slice(more);
    lines.push(process_lines(runs.iter().flat_map(|run| &run.processes)));
    lines.join("\n")
}

/// A table of processes; medians where one comes several times.
pub(super) fn process_lines<'a>(processes: impl IntoIterator<Item = &'a (&'static str, Usage)>) -> String {
    let mut by_name: BTreeMap<&str, Vec<Usage>> = BTreeMap::new();
    for (name, usage) in processes {
        by_name.entry(name).or_default().push(*usage);
    }
    let mut lines = vec![format!("  {:<12} {:>12} {:>12}", "process", "peak MB", "CPU s")];
    for (name, usages) in by_name {
        let peak = median(usages.iter().map(|usage| mb(usage.peak_kib)));
        let cpu = median(usages.iter().map(|usage| usage.cpu_seconds));
        lines.push(format!("  {name:<12} {peak:>12.1} {cpu:>12.2}"));
    }
    lines.join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process in KiB is far below 2^53")]
fn mb(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn the_summary_has_medians_of_rates_ratios_and_processes() {
        let run = |rate, peak_kib| Run {
            rate,
            limit: 100.0,
            processes: vec![("ingester", Usage { peak_kib, cpu_seconds: rate / 10.0 })],
        };
        let text = summary(
            "ingest",
            &[run(10.0, 1024), run(30.0, 3072), run(20.0, 2048)],
            "commits",
            "XADD",
            &["more".into()],
        );
        assert!(text.contains("20 commits/s"), "{text}");
        assert!(text.contains("\nmore\n"), "{text}");
        assert!(text.contains("0.20 of the limit"), "{text}");
        assert!(text.lines().last().unwrap().split_whitespace().eq(["ingester", "2.0", "2.00"]), "{text}");
    }
}
