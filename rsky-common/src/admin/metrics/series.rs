//! Declared metrics in a registry.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::declaration::{Declaration, Kind, Values};

/// Makes the metrics of a declaration.
#[derive(Clone, Copy, Debug)]
pub struct Made(&'static Declaration);

impl MetricConstructor<Counter> for Made {
    fn new_metric(&self) -> Counter {
        Counter::default()
    }
}

impl MetricConstructor<Gauge> for Made {
    fn new_metric(&self) -> Gauge {
        Gauge::default()
    }
}

impl MetricConstructor<Histogram> for Made {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.buckets.iter().copied())
    }
}

type Labels = Vec<(&'static str, String)>;

/// The series of a declaration with labels. Clones share them.
#[derive(Clone, Debug)]
pub struct Series<M> {
    declared: &'static Declaration,
    family: Family<Labels, M, Made>,
}

/// Counters by labels.
pub type Counters = Series<Counter>;
/// Histograms by labels.
pub type Histograms = Series<Histogram>;

impl<M: Clone> Series<M>
where
    Made: MetricConstructor<M>,
{
    /// The one with these values of the labels, in their order. It exists from now on.
    pub fn with(&self, values: &[&str]) -> M {
        self.family.get_or_create_owned(&self.declared.series(values))
    }

    /// Makes every series exist that begins with these values; the labels after them are of closed sets.
    pub fn introduce(&self, given: &[&str]) {
        let Some(label) = self.declared.labels.get(given.len()) else { return drop(self.with(given)) };
        let Values::OneOf(values) = label.values else { return };
        for value in values {
            self.introduce(&[given, &[*value]].concat());
        }
    }
}

impl Declaration {
    /// Registers it, without labels.
    pub fn one<M>(&'static self, registry: &mut Registry) -> M
    where
        Made: MetricConstructor<M>,
        M: Metric + Clone,
    {
        let metric: M = Made(self).new_metric();
        registry.register(self.bare_name(), self.help, metric.clone());
        metric
    }

    /// Registers it, with labels; its series exist when they are first asked for.
    pub fn many<M>(&'static self, registry: &mut Registry) -> Series<M>
    where
        Made: MetricConstructor<M>,
        M: EncodeMetric + TypedMetric + Clone + fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::new_with_constructor(Made(self));
        registry.register(self.bare_name(), self.help, family.clone());
        Series { declared: self, family }
    }

    /// Registers it as something that is computed when it is asked for: one figure; `None` where nobody knows.
    pub fn asked(
        &'static self,
        registry: &mut Registry,
        figure: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.asked_by(registry, move || figure().map(|figure| (Vec::new(), figure)).into_iter().collect());
    }

    /// Registers it as something that is computed when it is asked for: figures with the values of their labels.
    pub fn asked_by(
        &'static self,
        registry: &mut Registry,
        figures: impl Fn() -> Vec<(Vec<String>, f64)> + Send + Sync + 'static,
    ) {
        registry.register_collector(Box::new(Asked { declared: self, figures: Box::new(figures) }));
    }
}

struct Asked {
    declared: &'static Declaration,
    figures: Box<dyn Fn() -> Vec<(Vec<String>, f64)> + Send + Sync>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({})", self.declared.name)
    }
}

/// Above this a float is no longer exact as a whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let figures = (self.figures)();
        if figures.is_empty() {
            return Ok(());
        }
        let mut family = self.declared.begin(&mut encoder)?;
        for (values, figure) in figures {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let labels = self.declared.series(&values);
            let encoder = family.encode_family(&labels)?;
            if self.declared.kind == Kind::Counter {
                ConstCounter::new(figure).encode(encoder)?;
            } else if figure.fract() == 0.0 && figure.abs() < EXACT {
                ConstGauge::new(figure as i64).encode(encoder)?;
            } else {
                ConstGauge::new(figure).encode(encoder)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::declaration::{Label, counter, gauge, histogram};
    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn every_series_of_closed_sets_is_there_before_anything_happened() {
        static LABELS: &[Label] = &[
            Label::configured("host", "a host"),
            Label::one_of("kind", &["a", "b"]),
            Label::one_of("size", &["s", "l"]),
        ];
        static COUNTED: Declaration = counter("x_total", "things", "Things").by(LABELS);
        static TIMED: Declaration = histogram("t_seconds", "seconds", "Time", &[0.5, 2.0]).by(LABELS);
        let mut registry = Registry::default();
        let counted: Counters = COUNTED.many(&mut registry);
        let timed: Histograms = TIMED.many(&mut registry);
        counted.introduce(&["h"]);
        timed.introduce(&["h", "a"]);
        counted.with(&["h", "b", "l"]).inc();
        let text = text(&registry);
        for line in [
            "x_total{host=\"h\",kind=\"a\",size=\"s\"} 0",
            "x_total{host=\"h\",kind=\"b\",size=\"l\"} 1",
            "t_seconds_bucket{host=\"h\",kind=\"a\",size=\"l\",le=\"0.5\"} 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(text.matches("x_total{").count(), 4, "{text}");
        assert!(!text.contains("t_seconds_count{host=\"h\",kind=\"b\""), "{text}");
    }

    #[test]
    fn what_is_asked_for_is_computed_then_and_missing_when_nobody_knows() {
        static WHOLE: Declaration = gauge("whole", "things", "Things");
        static PARTS: Declaration =
            gauge("parts", "seconds", "Seconds").by(&[Label::configured("host", "a host")]);
        static UNKNOWN: Declaration = counter("unknown_total", "things", "Things");
        let (mut registry, number) = (Registry::default(), Arc::new(AtomicU64::new(0)));
        let asked = Arc::clone(&number);
        WHOLE.asked(&mut registry, move || Some(asked.load(Ordering::Relaxed) as f64));
        PARTS.asked_by(&mut registry, || vec![(vec!["h".to_owned()], 1.5)]);
        UNKNOWN.asked(&mut registry, || None);
        number.store(7, Ordering::Relaxed);
        let text = text(&registry);
        assert!(text.contains("\nwhole 7\n") && text.contains("\nparts{host=\"h\"} 1.5\n"), "{text}");
        assert!(!text.contains("unknown"), "{text}");
    }
}
