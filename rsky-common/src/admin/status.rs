//! What `/status` tells, by section.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

type Source = Box<dyn Fn() -> Value + Send + Sync>;

/// The sections of the status. Cloning gives another handle to the same ones.
#[derive(Clone, Default)]
pub struct Status {
    sections: Arc<Mutex<BTreeMap<String, Section>>>,
}

enum Section {
    Asked(Source),
    Told(Value),
}

impl Status {
    /// No sections.
    pub fn new() -> Self {
        Self::default()
    }

    /// A section that is asked for at each request. The source must answer from memory, at once.
    pub fn source(&self, name: impl Into<String>, source: impl Fn() -> Value + Send + Sync + 'static) {
        self.set(name.into(), Section::Asked(Box::new(source)));
    }

    /// A section as last measured.
    pub fn put(&self, name: impl Into<String>, value: Value) {
        self.set(name.into(), Section::Told(value));
    }

    /// All sections.
    pub fn read(&self) -> Map<String, Value> {
        let sections = self.sections.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |section: &Section| match section {
            Section::Asked(source) => source(),
            Section::Told(value) => value.clone(),
        };
        sections.iter().map(|(name, section)| (name.clone(), told(section))).collect()
    }

    fn set(&self, name: String, section: Section) {
        self.sections.lock().unwrap_or_else(PoisonError::into_inner).insert(name, section);
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Status")
    }
}
