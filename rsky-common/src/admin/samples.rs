//! Figures of the last half hour, for the plots: a ring of fixed size for each.
//!
//! A figure is read from memory every few seconds by the task that serves the pages; whoever counts it knows nothing of
//! that. The number of figures and the length of their rings are constants, and so is the memory: 40 × 360 × 4 bytes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two samples.
pub const EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: half an hour.
pub const KEPT: usize = 360;
/// Most figures; one more is not kept.
const MOST: usize = 40;
/// Age at which what was read is no longer what is so.
const OLD: Duration = Duration::from_secs(20);

/// A figure, and when it was so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The figure.
    pub value: f64,
    /// When.
    pub at: Instant,
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process runs; what is kept is how much a second.
    Counter,
    /// It is kept as it is.
    Gauge,
}

type Source = Box<dyn Fn(Instant) -> Option<Reading> + Send + Sync>;

struct Series {
    key: String,
    label: String,
    kind: Kind,
    source: Source,
    last: Option<Reading>,
    /// The oldest first; `NaN` where nobody knew.
    ring: Box<[f32; KEPT]>,
    filled: usize,
    next: usize,
}

/// What is known of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// What it is called in code.
    pub key: String,
    /// What it is called for people.
    pub label: String,
    /// Whether the values are a second's.
    pub is_rate: bool,
    /// The oldest first, [`EVERY`] apart; `None` where nobody knew.
    pub values: Vec<Option<f32>>,
}

impl History {
    /// The last value, if it was known.
    pub fn now(&self) -> Option<f32> {
        self.values.last().copied().flatten()
    }

    /// The mean of the last values that are known, over so long at most.
    pub fn mean(&self, over: Duration) -> Option<f64> {
        let most = usize::try_from(over.as_secs() / EVERY.as_secs()).unwrap_or(KEPT);
        let known: Vec<f64> =
            self.values.iter().rev().take(most).flatten().map(|value| f64::from(*value)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// The largest value.
    pub fn peak(&self) -> Option<f32> {
        self.values.iter().flatten().copied().reduce(f32::max)
    }

    /// Of a rate: how many in all, as far as it is known.
    pub fn total(&self) -> f64 {
        self.values.iter().flatten().map(|value| f64::from(*value)).sum::<f64>() * EVERY.as_secs_f64()
    }

    /// The first value that is known.
    pub fn first(&self) -> Option<f32> {
        self.values.iter().flatten().copied().next()
    }
}

/// The figures. Clones share them.
#[derive(Clone, Default)]
pub struct Samples(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    series: Vec<Series>,
    sampled: Option<Instant>,
}

impl Samples {
    /// A counter of this process, read from memory, at once.
    pub fn counter(
        &self,
        key: impl Into<String>,
        label: impl Into<String>,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let source = move |at| Some(Reading { value: read() as f64, at });
        self.add(key.into(), label.into(), Kind::Counter, Box::new(source));
    }

    /// A figure that is read from memory with the time it is of.
    pub fn figure(
        &self,
        key: impl Into<String>,
        label: impl Into<String>,
        kind: Kind,
        read: impl Fn(Instant) -> Option<Reading> + Send + Sync + 'static,
    ) {
        self.add(key.into(), label.into(), kind, Box::new(read));
    }

    fn add(&self, key: String, label: String, kind: Kind, source: Source) {
        let mut state = self.state();
        if state.series.len() >= MOST || state.series.iter().any(|series| series.key == key) {
            tracing::debug!(key, "no plot: it has one, or there are too many");
            return;
        }
        let ring = Box::new([f32::NAN; KEPT]);
        state.series.push(Series { key, label, kind, source, last: None, ring, filled: 0, next: 0 });
    }

    /// Takes a sample of each. After a pause in which none could be taken there is a gap.
    pub fn take(&self, now: Instant) {
        let mut state = self.state();
        let elapsed = state.sampled.map_or(EVERY, |before| now.saturating_duration_since(before));
        let missed = (elapsed.as_secs_f64() / EVERY.as_secs_f64()).round() as usize;
        state.sampled = Some(now);
        for series in &mut state.series {
            for _ in 1..missed.min(KEPT) {
                series.push(f32::NAN);
            }
            series.sample(now);
        }
    }

    /// What is known of each.
    pub fn read(&self) -> Vec<History> {
        self.state().series.iter().map(Series::history).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samples")
    }
}

impl Series {
    fn sample(&mut self, now: Instant) {
        let fresh = |reading: &Reading| now.saturating_duration_since(reading.at) < OLD;
        let read = (self.source)(now).filter(fresh);
        let value = match (self.kind, read, self.last) {
            (Kind::Gauge, read, _) => read.map(|read| read.value as f32),
            // Nobody has looked since: the rate is what it was.
            (Kind::Counter, Some(read), Some(last)) if read.at == last.at => self.newest(),
            (Kind::Counter, Some(read), Some(last)) if read.value >= last.value => {
                let seconds = read.at.saturating_duration_since(last.at).as_secs_f64();
                (seconds > 0.0).then(|| ((read.value - last.value) / seconds) as f32)
            }
            // The first look, or one at a counter that began anew.
            (Kind::Counter, _, _) => None,
        };
        self.last = read;
        self.push(value.unwrap_or(f32::NAN));
    }

    fn newest(&self) -> Option<f32> {
        let at = self.next.checked_sub(1).unwrap_or(KEPT - 1);
        self.ring.get(at).copied().filter(|value| !value.is_nan())
    }

    fn push(&mut self, value: f32) {
        if let Some(place) = self.ring.get_mut(self.next) {
            *place = value;
        }
        self.next = (self.next + 1) % KEPT;
        self.filled = (self.filled + 1).min(KEPT);
    }

    fn history(&self) -> History {
        let (young, old) = self.ring.split_at(self.next);
        let all = old.iter().chain(young).skip(KEPT - self.filled);
        let values = all.map(|value| Some(*value).filter(|value| !value.is_nan())).collect();
        let (key, label) = (self.key.clone(), self.label.clone());
        History { key, label, is_rate: self.kind == Kind::Counter, values }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn counted() -> (Samples, Arc<AtomicU64>, Instant) {
        let (samples, count) = (Samples::default(), Arc::new(AtomicU64::new(0)));
        let read = Arc::clone(&count);
        samples.counter("c", "counted", move || read.load(Ordering::Relaxed));
        (samples, count, Instant::now())
    }

    fn values(samples: &Samples) -> Vec<Option<f32>> {
        samples.read().remove(0).values
    }

    #[test]
    fn a_counter_is_kept_as_how_much_a_second() {
        let (samples, count, start) = counted();
        for (step, value) in [10, 60, 60, 5, 15].into_iter().enumerate() {
            count.store(value, Ordering::Relaxed);
            samples.take(start + EVERY * u32::try_from(step).unwrap());
        }
        // The fourth is smaller: it began anew, and nobody knows how much that was.
        assert_eq!(values(&samples), [None, Some(10.0), Some(0.0), None, Some(2.0)]);
    }

    #[test]
    fn a_pause_is_a_gap_and_the_ring_is_never_longer_than_half_an_hour() {
        let (samples, count, start) = counted();
        samples.take(start);
        count.store(30, Ordering::Relaxed);
        samples.take(start + EVERY * 3);
        assert_eq!(values(&samples), [None, None, None, Some(2.0)]);
        samples.take(start + EVERY * 10_000_000);
        assert_eq!(values(&samples).len(), KEPT);
        for step in 0..2 * KEPT {
            samples.take(start + EVERY * (10_000_001 + u32::try_from(step).unwrap()));
        }
        let all = values(&samples);
        assert!(all.len() == KEPT && all.iter().all(|value| *value == Some(0.0)));
    }

    #[test]
    fn what_nobody_has_looked_at_since_keeps_its_rate_until_it_is_old() {
        let (samples, start) = (Samples::default(), Instant::now());
        let seen: Arc<Mutex<Option<Reading>>> = Arc::default();
        let read = Arc::clone(&seen);
        samples.figure("f", "figure", Kind::Counter, move |_| *read.lock().unwrap());
        let at = |steps: u32| start + EVERY * steps;
        for (look, value) in [(0, 0.0), (1, 50.0)] {
            *seen.lock().unwrap() = Some(Reading { value, at: at(look) });
            samples.take(at(look));
        }
        for step in 2..7 {
            samples.take(at(step));
        }
        let rate = Some(10.0);
        assert_eq!(values(&samples), [None, rate, rate, rate, rate, None, None]);
    }

    #[test]
    fn there_are_so_many_figures_and_no_more() {
        let samples = Samples::default();
        for number in 0..3 * MOST {
            samples.counter(format!("c{number}"), "", || 0);
            samples.counter("c0", "", || 0);
        }
        assert_eq!(samples.read().len(), MOST);
    }

    #[test]
    fn means_are_of_what_is_known() {
        let values = vec![Some(9.0), None, Some(1.0), Some(3.0)];
        let history = History { key: String::new(), label: String::new(), is_rate: true, values };
        assert_eq!(history.mean(EVERY * 3), Some(2.0));
        assert_eq!((history.now(), history.peak(), history.first()), (Some(3.0), Some(9.0), Some(9.0)));
    }
}
