//! The state of gates as metrics, read when they are scraped.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Gate;
use super::gate::GateStatus;

/// `<daemon>_backpressure_active`, `<daemon>_backpressure_seconds_total`, `<daemon>_stream_length`,
/// `<daemon>_stream_high_water_mark`, each by stream. Register it with `Registry::register_collector`.
#[derive(Debug)]
pub struct GateMetrics {
    daemon: &'static str,
    gates: Vec<Gate>,
}

type Figure = fn(&GateStatus) -> Option<i64>;

impl GateMetrics {
    /// Metrics of these gates, their names starting with the daemon's.
    pub fn new(daemon: &'static str, gates: Vec<Gate>) -> Self {
        Self { daemon, gates }
    }
}

fn whole(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}

const GAUGES: &[(&str, &str, Figure)] = &[
    ("backpressure_active", "1 while nothing may be written to the stream", |status| {
        Some(status.shut.is_some().into())
    }),
    ("stream_length", "Entries in the stream, as last seen; absent while nobody knows", |status| {
        status.length.map(whole)
    }),
    ("stream_high_water_mark", "Length at which writing stops", |status| Some(whole(status.mark))),
];

impl Collector for GateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let statuses: Vec<GateStatus> = self.gates.iter().map(Gate::status).collect();
        for (name, help, figure) in GAUGES {
            let name = format!("{}_{name}", self.daemon);
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for status in &statuses {
                let Some(figure) = figure(status) else { continue };
                let labels = [("stream", status.stream.as_str())];
                ConstGauge::new(figure).encode(family.encode_family(&labels)?)?;
            }
        }
        let name = format!("{}_backpressure_seconds", self.daemon);
        let help = "Time during which nothing could be written, in seconds";
        let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for status in &statuses {
            let labels = [("stream", status.stream.as_str())];
            ConstCounter::new(status.shut_seconds).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::redis::GateConfig;
    use crate::runtime::memory::MemoryProbe;

    #[test]
    fn tells_length_mark_and_state_by_stream() {
        let config = GateConfig { mark: 7, batch: 5, small_batch: 1, memory: 1.0 };
        let gate = Gate::new("s", config, Arc::new(MemoryProbe::detect()));
        gate.note_length(3);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(GateMetrics::new("test", vec![gate])));
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        for line in [
            "test_backpressure_active{stream=\"s\"} 0",
            "test_stream_length{stream=\"s\"} 3",
            "test_stream_high_water_mark{stream=\"s\"} 7",
            "test_backpressure_seconds_total{stream=\"s\"} 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
