//! Metrics that are read from the sources when they are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use rsky_common::admin::prometheus_client::collector::Collector;
use rsky_common::admin::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use rsky_common::admin::prometheus_client::metrics::MetricType;
use rsky_common::admin::prometheus_client::metrics::gauge::ConstGauge;

use crate::budgets::Budgets;
use crate::source::Source;

/// The sources that are read. Cloning gives another handle to the same list.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    sources: Arc<Mutex<Vec<Arc<Source>>>>,
    budgets: Budgets,
}

impl SourceMetrics {
    /// No sources yet.
    pub fn new(budgets: Budgets) -> Self {
        Self { sources: Arc::default(), budgets }
    }

    /// Another source.
    pub fn add(&self, source: &Arc<Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(source));
    }

    /// Frames read and not yet in Redis, of all sources.
    pub fn frames(&self) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|source| source.waiting()).sum()
    }

    /// How many times frames were written or dropped, by all sources: it changes while the work moves.
    pub fn times_done(&self) -> u64 {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().map(|source| source.times_done()).fold(0, u64::wrapping_add)
    }
}

impl Collector for SourceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = "ingester_lag_seconds";
        let help = "How far what is written is behind: the age of the newest event, and the time since when something waits or nobody listens";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for source in &sources {
            let Some(lag) = source.lag_seconds() else { continue };
            let labels = [("stream", source.stream.as_str()), ("host", source.host.configured())];
            ConstGauge::new(lag).encode(family.encode_family(&labels)?)?;
        }
        let whole = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
        for (name, help, figure) in [
            ("ingester_events_in_memory", "Frames read and not yet in Redis", whole(self.frames())),
            ("ingester_bytes_in_memory", "Their size", whole(self.budgets.bytes())),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(figure).encode(metric)?;
        }
        Ok(())
    }
}
