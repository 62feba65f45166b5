//! Typed reading of variables that collects every fault before it reports.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::{Environment, Secret, Variable, parse_size};

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not usable:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// An error of a single fault. Name the variable and what was expected.
    pub fn of(fault: impl Into<String>) -> Self {
        Self(vec![fault.into()])
    }
}

/// Reads variables one by one. A getter that meets a fault notes it and returns a placeholder; [`Settings::finish`]
/// gives the finished struct only when nothing was noted.
#[derive(Debug)]
pub struct Settings {
    environment: Environment,
    faults: Vec<String>,
}

impl Settings {
    /// Starts reading from an environment.
    pub fn new(environment: Environment) -> Self {
        Self { environment, faults: Vec::new() }
    }

    /// The struct that was read, or every fault there was.
    ///
    /// # Errors
    /// At least one variable is missing or malformed.
    pub fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(value) } else { Err(ConfigError(self.faults)) }
    }

    /// The environment that is read.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Notes a fault that only the daemon can see (two settings that exclude each other). Name the variables.
    pub fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// The value under either of its names, as set; `None` when unset. Two different values are a fault.
    pub fn given(&mut self, variable: &Variable) -> Option<String> {
        let first = self.environment.get(variable.name).map(str::to_owned);
        let other = variable.alias.and_then(|alias| self.environment.get(alias)).map(str::to_owned);
        if let (Some(first), Some(other), Some(alias)) = (&first, &other, variable.alias)
            && first != other
        {
            self.fault(format!(
                "{} and {alias} are the same setting and have different values",
                variable.name
            ));
        }
        first.or(other)
    }

    /// A value by a parser of its own, with the default of the declaration; `placeholder` stands in after a fault.
    /// A variable without default is required.
    pub fn parse<T>(&mut self, variable: &Variable, placeholder: T, parser: impl Fn(&str) -> Option<T>) -> T {
        let given = self.given(variable);
        let Some(text) = given.or_else(|| variable.default.map(str::to_owned)) else {
            self.faults.push(format!("{} is missing: expected {}", names(variable), variable.expects));
            return placeholder;
        };
        self.parse_text(variable, &text).by(parser).unwrap_or(placeholder)
    }

    /// As [`Settings::parse`], for a variable that may be absent.
    pub fn parse_optional<T>(
        &mut self,
        variable: &Variable,
        parser: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.given(variable).or_else(|| variable.default.map(str::to_owned))?;
        self.parse_text(variable, &text).by(parser)
    }

    /// Text, verbatim but trimmed.
    pub fn text(&mut self, variable: &Variable) -> String {
        self.parse(variable, String::new(), |text| Some(text.to_owned()))
    }

    /// A whole number within bounds.
    pub fn integer<T: FromStr + PartialOrd + Default>(
        &mut self,
        variable: &Variable,
        range: RangeInclusive<T>,
    ) -> T {
        self.parse(variable, T::default(), |text| text.parse().ok().filter(|value| range.contains(value)))
    }

    /// A duration given in whole milliseconds.
    pub fn millis(&mut self, variable: &Variable, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.integer(variable, range))
    }

    /// A duration given in whole seconds.
    pub fn seconds(&mut self, variable: &Variable, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.integer(variable, range))
    }

    /// A number of bytes: plain or with a unit ("32MiB").
    pub fn bytes(&mut self, variable: &Variable, range: RangeInclusive<u64>) -> u64 {
        self.parse(variable, 0, |text| parse_size(text).filter(|value| range.contains(value)))
    }

    /// `true/false`, `1/0`, `t/f`, `yes/no`, `on/off`.
    pub fn flag(&mut self, variable: &Variable) -> bool {
        self.parse(variable, false, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" | "yes" | "on" => Some(true),
            "false" | "0" | "f" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// A comma-separated list; items are trimmed and empty ones dropped. Without default the list must have an item.
    pub fn list(&mut self, variable: &Variable) -> Vec<String> {
        let required = variable.default.is_none();
        self.parse(variable, Vec::new(), |text| {
            Some(items(text)).filter(|list| !(required && list.is_empty()))
        })
    }

    /// As [`Settings::list`], empty when unset.
    pub fn optional_list(&mut self, variable: &Variable) -> Vec<String> {
        self.parse_optional(variable, |text| Some(items(text))).unwrap_or_default()
    }

    /// One of a closed set of words. `choices` must not be empty; its first value is the placeholder.
    pub fn one_of<T: Copy>(&mut self, variable: &Variable, choices: &[(&str, T)], placeholder: T) -> T {
        self.parse(variable, placeholder, |text| {
            choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
        })
    }

    /// A URL with one of the given schemes whose value never shows up in a message.
    pub fn secret_url(&mut self, variable: &Variable, schemes: &[&str]) -> Secret {
        let given = self.given(variable).or_else(|| variable.default.map(str::to_owned));
        let Some(text) = given else {
            self.faults.push(format!("{} is missing: expected {}", names(variable), variable.expects));
            return Secret::default();
        };
        let known =
            text.split_once("://").filter(|(scheme, rest)| schemes.contains(scheme) && !rest.is_empty());
        if known.is_none() {
            self.faults.push(format!(
                "{} is malformed (value not shown): expected {}",
                names(variable),
                variable.expects
            ));
        }
        Secret::new(text)
    }

    fn parse_text<'a>(&'a mut self, variable: &'a Variable, text: &'a str) -> Parsing<'a> {
        Parsing { settings: self, variable, text }
    }
}

struct Parsing<'a> {
    settings: &'a mut Settings,
    variable: &'a Variable,
    text: &'a str,
}

impl Parsing<'_> {
    fn by<T>(self, parser: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = parser(self.text);
        if value.is_none() {
            let shown: String = self.text.chars().take(80).collect();
            self.settings.faults.push(format!(
                "{} is \"{}\": expected {}",
                names(self.variable),
                shown.escape_debug(),
                self.variable.expects
            ));
        }
        value
    }
}

fn names(variable: &Variable) -> String {
    variable.alias.map_or_else(|| variable.name.to_owned(), |alias| format!("{} (or {alias})", variable.name))
}

fn items(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn variable(name: &'static str, default: Option<&'static str>) -> Variable {
        Variable { name, alias: Some("OTHER"), expects: "the right thing", default, help: "" }
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::new(Environment::from_pairs(pairs))
    }

    #[test]
    fn reports_every_fault_at_once() {
        let mut settings = settings(&[("NUMBER", "12x"), ("FLAG", "maybe"), ("URL", "http://user:secret@h")]);
        settings.integer::<u16>(&variable("NUMBER", Some("1")), 0..=9);
        settings.flag(&variable("FLAG", None));
        settings.text(&variable("MISSING", None));
        settings.secret_url(&variable("URL", None), &["redis"]);
        let said = settings.finish(()).unwrap_err().to_string();
        for part in [
            "NUMBER (or OTHER) is \"12x\"",
            "FLAG",
            "MISSING (or OTHER) is missing",
            "URL",
            "the right thing",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
        assert_eq!(said.lines().count(), 5, "{said}");
    }

    #[test]
    fn takes_defaults_aliases_and_bounds() {
        let mut settings = settings(&[("OTHER", "7"), ("LIST", " a, ,b,"), ("MS", "250")]);
        assert_eq!(settings.integer::<u16>(&variable("NUMBER", Some("1")), 0..=9), 7);
        let lonely = Variable { alias: None, ..variable("LIST", None) };
        assert_eq!(settings.list(&lonely), ["a", "b"]);
        assert_eq!(settings.optional_list(&Variable { name: "NONE", ..lonely }), Vec::<String>::new());
        assert_eq!(settings.millis(&Variable { name: "MS", ..lonely }, 1..=999), Duration::from_millis(250));
        assert_eq!(
            settings.bytes(&Variable { name: "S", default: Some("1KiB"), ..lonely }, 0..=u64::MAX),
            1024
        );
        settings.finish(()).unwrap();
    }

    #[test]
    fn two_names_with_different_values_are_a_fault_and_equal_ones_are_not() {
        let mut same = settings(&[("NAME", "x"), ("OTHER", "x")]);
        assert_eq!(same.text(&variable("NAME", None)), "x");
        same.finish(()).unwrap();
        let mut different = settings(&[("NAME", "x"), ("OTHER", "y")]);
        different.text(&variable("NAME", None));
        let said = different.finish(()).unwrap_err().to_string();
        assert!(said.contains("NAME and OTHER"), "{said}");
    }

    #[test]
    fn a_required_list_of_nothing_is_a_fault() {
        let mut settings = settings(&[("HOSTS", " , ")]);
        settings.list(&variable("HOSTS", None));
        assert!(settings.finish(()).is_err());
    }
}
