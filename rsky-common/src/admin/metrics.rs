//! The registry of a daemon, with what every process tells about itself.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::redis::letter_room::TrimmedLetters;
use crate::runtime::memory::resident_bytes;

/// Kernel ticks per second in `/proc/self/stat`; 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// A registry that holds the build information and the process metrics. Do not write `_total` in names of counters:
/// the encoder appends it.
pub fn registry(name: &'static str, version: &'static str) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("daemon", name), ("version", version)]);
    registry.register("rsky_build", "The daemon and its version", build);
    registry.register_collector(Box::new(Process));
    registry.register_collector(Box::new(TrimmedLetters));
    registry
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        if let Some(bytes) = resident_bytes(&read("/proc/self/status")) {
            let gauge = ConstGauge::new(bytes.try_into().unwrap_or(i64::MAX));
            let help = "Resident memory in bytes";
            let metric = encoder.encode_descriptor(
                "process_resident_memory_bytes",
                help,
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        if let Some(seconds) = cpu_seconds(&read("/proc/self/stat")) {
            let counter = ConstCounter::new(seconds);
            let help = "User and system CPU time in seconds";
            let metric =
                encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

/// CPU time from the text of `/proc/self/stat`; the command in parentheses may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // After the command: state is field 3, utime 14, stime 15 (proc(5)).
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_past_any_command_name() {
        let stat = "7 (a b) (c) S 1 7 7 0 -1 4194304 123 0 0 0 250 50 0 0 20 0 4 0 100 1000 5";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (x"), None);
    }

    #[test]
    fn always_tells_memory_cpu_and_build() {
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry("test", "1.2.3")).unwrap();
        for name in [
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "rsky_build_info{daemon=\"test\",version=\"1.2.3\"} 1",
        ] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
