//! The plan of a daemon's memory: defaults that are made to fit the limit it finds itself under.
//!
//! A daemon says which of its settings take memory, and how much they take together at most. Those that nobody has set
//! are lowered by one common factor until that fits; what somebody has set is kept, and if it does not fit, that is said.

use std::fmt;

use serde_json::{Value, json};

use super::memory::mebibytes;
use super::memory_limit::MemoryLimit;
use crate::config::{Settings, Variable};

/// Steps between the least and the full value of every default.
const STEPS: u64 = 1024;

/// A setting that takes memory.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    name: &'static str,
    full: u64,
    least: u64,
    explicit: bool,
}

impl Knob {
    /// A setting with its value, which the plan may lower down to `least` unless somebody has set it.
    pub fn of(settings: &mut Settings, variable: &Variable, value: u64, least: u64) -> Self {
        let explicit = settings.given(variable).is_some();
        Self {
            name: variable.name,
            full: value,
            least: if explicit { value } else { least.min(value) },
            explicit,
        }
    }

    /// Something that takes memory and is no setting, by what it is called in the log.
    pub fn inner(name: &'static str, value: u64, least: u64) -> Self {
        Self { name, full: value, least: least.min(value), explicit: false }
    }

    fn at(&self, step: u64) -> u64 {
        let scaled = u128::from(self.full) * u128::from(step) / u128::from(STEPS);
        u64::try_from(scaled).unwrap_or(self.full).max(self.least)
    }
}

/// What was planned.
#[derive(Clone, Debug)]
pub struct Plan<const N: usize> {
    /// The values of the settings, in the order they were given.
    pub values: [u64; N],
    /// What there is to say about it.
    pub report: Report,
}

/// What there is to say about a plan.
#[derive(Clone, Debug)]
pub struct Report {
    limit: Option<MemoryLimit>,
    needed: u64,
    lowered: Vec<(&'static str, u64, u64)>,
    explicit: Vec<&'static str>,
}

/// A configuration of which `N` settings may be lowered by the plan.
pub trait Planned<const N: usize>: Clone {
    /// What may be lowered; `None`: nothing is planned.
    fn knobs(&self) -> Option<[Knob; N]>;

    /// The same with these values, in the order of the knobs.
    #[must_use]
    fn with(self, values: [u64; N]) -> Self;

    /// Most memory the process takes, in bytes. Must not fall when a value rises.
    fn memory_bound(&self) -> u64;

    /// Keeps what there is to say about the plan.
    fn planned(&mut self, report: Report);

    /// The same with what nobody has set lowered until the process fits `limit`.
    #[must_use]
    fn within(mut self, limit: Option<MemoryLimit>) -> Self {
        if let Some(knobs) = self.knobs() {
            let plan = plan(limit, knobs, |values| self.clone().with(values).memory_bound());
            self = self.with(plan.values);
            self.planned(plan.report);
        }
        self
    }
}

/// Makes the plan: the largest values with which `bound`, the bytes taken at most, fits `limit`. `bound` must not fall when
/// a value rises. When even the least values do not fit, they are what is planned; [`Report::warning`] says so.
pub fn plan<const N: usize>(
    limit: Option<MemoryLimit>,
    knobs: [Knob; N],
    bound: impl Fn([u64; N]) -> u64,
) -> Plan<N> {
    let at = |step: u64| knobs.map(|knob| knob.at(step));
    let usable = limit.map_or(u64::MAX, MemoryLimit::usable);
    let fits = |step: u64| bound(at(step)) <= usable;
    let (mut low, mut high) = (0, STEPS);
    if fits(high) {
        low = high;
    }
    // `low` fits, or is the last resort; `high` does not fit.
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    let values = at(low);
    let changed = knobs.iter().zip(values).filter(|(knob, value)| knob.full != *value);
    let report = Report {
        limit,
        needed: bound(values),
        lowered: changed.map(|(knob, value)| (knob.name, knob.full, value)).collect(),
        explicit: knobs.iter().filter(|knob| knob.explicit).map(|knob| knob.name).collect(),
    };
    Plan { values, report }
}

impl Report {
    /// Bytes taken at most.
    pub fn needed(&self) -> u64 {
        self.needed
    }

    /// What to tell the operator when it does not fit, whatever is lowered.
    pub fn warning(&self) -> Option<String> {
        let limit = self.limit.filter(|limit| self.needed > limit.usable())?;
        let kept = if self.explicit.is_empty() {
            "nothing is left to lower".to_owned()
        } else {
            format!("{} set by hand and kept: lower them", self.explicit.join(", "))
        };
        Some(format!(
            "memory: {} may be taken, and only {limit} may be planned with; {kept}, or raise the limit. The process may \
             be ended for lack of memory",
            mebibytes(self.needed)
        ))
    }

    /// The same for the pages.
    pub fn json(&self) -> Value {
        json!({
            "limit_bytes": self.limit.map(|limit| limit.bytes),
            "usable_bytes": self.limit.map(MemoryLimit::usable),
            "needed_bytes": self.needed,
            "plan": self.to_string(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory: at most {} are taken", mebibytes(self.needed))?;
        match self.limit {
            Some(limit) => write!(f, ", and {limit} may be planned with")?,
            None => write!(f, ", and no limit is known")?,
        }
        for (number, (name, full, value)) in self.lowered.iter().enumerate() {
            write!(f, "{} {name} {full} to {value}", if number == 0 { "; lowered to fit:" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::runtime::memory_limit::Boundary;

    const SIZE: Variable = Variable { name: "SIZE", alias: None, expects: "", default: None, help: "" };
    const MIB: u64 = 1 << 20;

    fn knobs(set: bool) -> [Knob; 2] {
        let pairs = set.then(|| ("SIZE".to_owned(), "x".to_owned()));
        let mut settings = Settings::new(Environment::from_pairs(pairs));
        [Knob::of(&mut settings, &SIZE, 32 * MIB, MIB), Knob::inner("workers", 50, 1)]
    }

    fn of(mib: u64) -> Option<MemoryLimit> {
        Some(MemoryLimit { bytes: mib * MIB, boundary: Boundary::Cgroup("cgroup v2") })
    }

    fn bound([size, workers]: [u64; 2]) -> u64 {
        64 * MIB + workers * (size + 8 * MIB)
    }

    #[test]
    fn what_fits_is_left_alone() {
        for limit in [None, of(16 << 10)] {
            let plan = plan(limit, knobs(false), bound);
            assert_eq!(plan.values, [32 * MIB, 50]);
            assert_eq!((plan.report.warning(), plan.report.lowered.len()), (None, 0));
        }
    }

    #[test]
    fn defaults_are_lowered_no_further_than_needed() {
        let mut last = [0, 0];
        for mib in [128, 256, 512, 1024, 2048, 4096] {
            let plan = plan(of(mib), knobs(false), bound);
            let (needed, usable) = (plan.report.needed(), of(mib).unwrap().usable());
            assert!(needed <= usable && needed >= usable / 2, "{mib}: {needed} of {usable}");
            assert!(plan.values.iter().zip(last).all(|(value, last)| *value >= last), "{mib}");
            assert_eq!(plan.report.warning(), None);
            last = plan.values;
        }
        let said = plan(of(256), knobs(false), bound).report.to_string();
        assert!(
            said.contains("179 MiB (70 % of 256 MiB, cgroup v2)") && said.contains(", workers 50 to "),
            "{said}"
        );
    }

    #[test]
    fn what_was_set_is_kept_and_the_rest_gives_way() {
        let fits = plan(of(256), knobs(true), bound);
        assert_eq!(fits.values, [32 * MIB, 2]);
        assert_eq!(fits.report.warning(), None);
        let fits_not = plan(of(128), knobs(true), bound);
        assert_eq!(fits_not.values, [32 * MIB, 1]);
        let said = fits_not.report.warning().unwrap();
        assert!(said.contains("104 MiB may be taken") && said.contains("SIZE set by hand"), "{said}");
    }

    #[test]
    fn the_least_is_planned_where_nothing_fits() {
        let plan = plan(of(16), knobs(false), bound);
        assert_eq!(plan.values, [MIB, 1]);
        assert!(plan.report.warning().unwrap().contains("nothing is left to lower"));
    }
}
