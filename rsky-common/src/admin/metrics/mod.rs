//! The registry of a daemon, with what every process tells about itself; how metrics are declared.

mod declaration;
mod document;
mod process;
mod scrape;
mod series;

pub use declaration::{Declaration, Group, Kind, Label, Values, counter, gauge, histogram};
pub use document::{OF_EVERY_DAEMON, document, metrics_faults, print_document};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;
pub use scrape::differences;
pub use series::{Counters, Histograms, Series};

use super::Health;
use crate::redis::{figures, letter_room};

/// What every daemon declares.
pub static COMMON: &[Group] = &[process::OF_PROCESS, figures::OF_REDIS, letter_room::OF_LETTERS];

/// A registry that holds what every process tells about itself.
pub fn registry(name: &'static str, version: &'static str, health: &Health) -> Registry {
    let mut registry = Registry::default();
    process::register(&mut registry, name, version, health.clone());
    letter_room::register(&mut registry);
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_tells_memory_cpu_and_build() {
        let mut text = String::new();
        let health = Health::new();
        let registry = registry("test", "1.2.3", &health);
        let part = health.part("p");
        for (ready, is_ready) in [(0, false), (1, true)] {
            if is_ready {
                part.ready();
            }
            text.clear();
            prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
            for name in [
                "process_resident_memory_bytes ",
                "process_cpu_seconds_total ",
                "process_open_fds ",
                "rsky_build_info{daemon=\"test\",version=\"1.2.3\"} 1",
                &format!("rsky_ready {ready}\n"),
            ] {
                assert!(text.contains(name), "{name}: {text}");
            }
        }
    }

    #[test]
    fn no_name_is_declared_twice() {
        let mut names: Vec<&str> =
            COMMON.iter().flat_map(|group| group.all).map(|declared| declared.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
