//! The state of gates as metrics, read when they are scraped.

use prometheus_client::registry::Registry;

use super::Gate;
use super::gate::{GateStatus, Shut};
use crate::admin::{Declaration, Label};

/// The stream behind a gate.
pub const STREAM: Label = Label::configured("stream", "a stream that is written");
/// Why a gate is shut.
pub const REASON: Label = Label::one_of("reason", &["length", "memory", "redis"]);

/// What a daemon declares of its gates; made by [`crate::declare_gates`].
#[derive(Debug)]
pub struct GateDeclarations {
    /// 1 while it is shut.
    pub active: &'static Declaration,
    /// 1 for the reason for which it is shut.
    pub shut: &'static Declaration,
    /// How often it was shut.
    pub times: &'static Declaration,
    /// For how long it was shut.
    pub seconds: &'static Declaration,
    /// Entries in the stream.
    pub length: &'static Declaration,
    /// Where it shuts.
    pub mark: &'static Declaration,
}

/// Declares the gates' metrics of a daemon, with its name before each, as `GATES`, and the group `OF_GATES`.
#[macro_export]
macro_rules! declare_gates {
    ($daemon:literal) => {
        $crate::declare! {
            OF_GATES, "Backpressure";
            GATE_ACTIVE = $crate::admin::gauge(
                concat!($daemon, "_backpressure_active"),
                "0 or 1",
                "1 while nothing may be written to the stream"
            ).by(&[$crate::redis::gate_metrics::STREAM]);
            GATE_SHUT = $crate::admin::gauge(
                concat!($daemon, "_gate_shut"),
                "0 or 1",
                "1 for the reason for which nothing may be written: the stream is at its mark, memory is short, Redis takes no writes"
            ).by(&[$crate::redis::gate_metrics::STREAM, $crate::redis::gate_metrics::REASON]);
            GATE_TIMES = $crate::admin::counter(
                concat!($daemon, "_gate_shuts_total"),
                "times",
                "How often the gate was shut"
            ).by(&[$crate::redis::gate_metrics::STREAM]);
            GATE_SECONDS = $crate::admin::counter(
                concat!($daemon, "_backpressure_seconds_total"),
                "seconds",
                "Time during which nothing could be written"
            ).by(&[$crate::redis::gate_metrics::STREAM]);
            GATE_LENGTH = $crate::admin::gauge(
                concat!($daemon, "_stream_length"),
                "entries",
                "Entries in the stream, as last seen"
            ).by(&[$crate::redis::gate_metrics::STREAM]).absent("while nobody knows");
            GATE_MARK = $crate::admin::gauge(
                concat!($daemon, "_stream_high_water_mark"),
                "entries",
                "Length at which writing stops"
            ).by(&[$crate::redis::gate_metrics::STREAM]);
        }

        /// The gates'.
        #[allow(unreachable_pub, reason = "depends on where it is declared")]
        pub static GATES: $crate::redis::gate_metrics::GateDeclarations =
            $crate::redis::gate_metrics::GateDeclarations {
                active: &GATE_ACTIVE,
                shut: &GATE_SHUT,
                times: &GATE_TIMES,
                seconds: &GATE_SECONDS,
                length: &GATE_LENGTH,
                mark: &GATE_MARK,
            };
    };
}

type Figure = fn(&GateStatus) -> Option<f64>;

fn truth(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

impl GateDeclarations {
    /// Registers the metrics of these gates.
    pub fn register(&self, registry: &mut Registry, gates: &[Gate]) {
        let figures: [(&'static Declaration, Figure); 5] = [
            (self.active, |status| Some(truth(status.shut.is_some()))),
            (self.times, |status| Some(status.times_shut as f64)),
            (self.seconds, |status| Some(status.shut_seconds)),
            (self.length, |status| Some(status.length? as f64)),
            (self.mark, |status| Some(status.mark as f64)),
        ];
        for (declared, figure) in figures {
            let gates = gates.to_vec();
            declared.asked_by(registry, move || {
                let of = |gate: &Gate| Some((vec![gate.stream().to_owned()], figure(&gate.status())?));
                gates.iter().filter_map(of).collect()
            });
        }
        let gates = gates.to_vec();
        self.shut.asked_by(registry, move || gates.iter().flat_map(reasons).collect());
    }
}

fn reasons(gate: &Gate) -> [(Vec<String>, f64); 3] {
    let shut = gate.shut();
    let is_so = |reason: &str| match shut {
        Some(Shut::Length { .. }) => reason == "length",
        Some(Shut::Memory { .. }) => reason == "memory",
        Some(Shut::Redis) => reason == "redis",
        None => false,
    };
    ["length", "memory", "redis"]
        .map(|reason| (vec![gate.stream().to_owned(), reason.to_owned()], truth(is_so(reason))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::redis::{GateConfig, Outage};
    use crate::runtime::memory::MemoryProbe;

    crate::declare_gates!("test");

    #[test]
    fn tells_length_mark_state_and_reason_by_stream() {
        let config = GateConfig { mark: 7, batch: 5, small_batch: 1, memory: 1.0 };
        let gate = Gate::new("s", config, Arc::new(MemoryProbe::detect()));
        gate.note_length(3);
        let mut registry = Registry::default();
        GATES.register(&mut registry, std::slice::from_ref(&gate));
        let told = |lines: &[&str]| {
            let mut text = String::new();
            prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
            for line in lines {
                assert!(text.contains(line), "{line}: {text}");
            }
        };
        told(&[
            "test_backpressure_active{stream=\"s\"} 0",
            "test_stream_length{stream=\"s\"} 3",
            "test_stream_high_water_mark{stream=\"s\"} 7",
            "test_backpressure_seconds_total{stream=\"s\"} 0",
            "test_gate_shut{stream=\"s\",reason=\"redis\"} 0",
        ]);
        gate.note_outage(Outage::Writes);
        told(&[
            "test_backpressure_active{stream=\"s\"} 1",
            "test_gate_shut{stream=\"s\",reason=\"redis\"} 1",
            "test_gate_shut{stream=\"s\",reason=\"length\"} 0",
            "test_gate_shuts_total{stream=\"s\"} 1",
        ]);
        assert_eq!(OF_GATES.all.len(), 6);
    }
}
