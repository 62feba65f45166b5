//! What is known of a metric before there is one: name, type, unit, labels, meaning. Everything else that names it (the
//! registry, docs/METRICS.md, the tests of alerts and dashboards) goes by its declaration.

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// A metric as declared.
#[derive(Debug)]
pub struct Declaration {
    /// Its name as it is scraped: with `_total` where it is a counter.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it counts or measures: `entries`, `seconds`, `bytes`; `0 or 1` for what is so or is not.
    pub unit: &'static str,
    /// What it means, a sentence without a full stop.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets, in its unit.
    pub buckets: &'static [f64],
    /// When a series is missing; empty: it is there from the start.
    pub absent: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// How it stands.
    Gauge,
    /// How often which size came.
    Histogram,
    /// A gauge that is 1 and says something by its labels.
    Info,
}

/// A label, with the values it may have: a closed set, or one that the configuration bounds.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// Which values a label may have.
#[derive(Debug)]
pub enum Values {
    /// These. Whatever else is counted as `other`.
    OneOf(&'static [&'static str]),
    /// As many as are configured; what they are, for the documentation.
    Configured(&'static str),
}

impl Label {
    /// A label that has one of these values.
    pub const fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values: Values::OneOf(values) }
    }

    /// A label whose values are bounded by the configuration; `what` they are, for the documentation.
    pub const fn configured(name: &'static str, what: &'static str) -> Self {
        Self { name, values: Values::Configured(what) }
    }

    /// The value as it may stand in a series.
    pub(super) fn fit(&self, value: &str) -> String {
        let is_fit = match self.values {
            Values::OneOf(values) => values.contains(&value),
            Values::Configured(_) => true,
        };
        debug_assert!(is_fit, "{}={value} is not declared", self.name);
        if is_fit { value } else { "other" }.to_owned()
    }
}

/// Declares a counter; `name` ends in `_total`.
pub const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Declaration {
    Declaration { name, kind: Kind::Counter, unit, help, labels: &[], buckets: &[], absent: "" }
}

/// Declares a gauge.
pub const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Declaration {
    Declaration { kind: Kind::Gauge, ..counter(name, unit, help) }
}

/// Declares a histogram.
pub const fn histogram(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    buckets: &'static [f64],
) -> Declaration {
    Declaration { kind: Kind::Histogram, buckets, ..counter(name, unit, help) }
}

impl Declaration {
    /// With these labels.
    pub const fn by(self, labels: &'static [Label]) -> Self {
        Self { labels, ..self }
    }

    /// Series are missing when this is so.
    pub const fn absent(self, when: &'static str) -> Self {
        Self { absent: when, ..self }
    }

    /// The name without what the encoder appends.
    pub(super) fn bare_name(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => return self.name,
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// Begins it in the text of a scrape, for what is computed then.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn begin<'e>(
        &self,
        encoder: &'e mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'e>, std::fmt::Error> {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge | Kind::Info => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        encoder.encode_descriptor(self.bare_name(), self.help, None, kind)
    }

    /// The labels of a series; what is not given is missing.
    pub(super) fn series(&self, values: &[&str]) -> Vec<(&'static str, String)> {
        debug_assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
        self.labels.iter().zip(values).map(|(label, value)| (label.name, label.fit(value))).collect()
    }
}

/// Declarations that belong together, under a heading of the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The heading.
    pub heading: &'static str,
    /// In the order of the documentation.
    pub all: &'static [&'static Declaration],
}

/// Declares metrics, each once: `declare! { pub GROUP, "Heading": NAME = counter(…); … }` makes a static of each and a
/// [`Group`] of all.
#[macro_export]
macro_rules! declare {
    ($group:ident, $heading:expr; $($id:ident = $declaration:expr;)*) => {
        $(
            /// See its text.
            #[allow(unreachable_pub, reason = "depends on where it is declared")]
            pub static $id: $crate::admin::Declaration = $declaration;
        )*

        #[doc = $heading]
        #[allow(unreachable_pub, reason = "depends on where it is declared")]
        pub static $group: $crate::admin::Group =
            $crate::admin::Group { heading: $heading, all: &[$(&$id),*] };
    };
}
