//! The process environment as `envy` reads it, and misspelt names in it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Variable;

/// Names and values of environment variables. Names are compared without regard to case, as `envy` does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. Bytes that are not UTF-8 become U+FFFD, so that the setting they are in is
    /// refused as malformed rather than the process panicking.
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self::from_pairs(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// An environment given as pairs, for tests and tools.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        // A map of strings accepts whatever there is, so this has no failing case.
        envy::from_iter(pairs).unwrap_or_default()
    }

    /// The trimmed value of a variable; unset and empty are the same.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_lowercase()).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// One sentence for each variable that starts with one of `prefixes`, is not among `known`, and is close enough
    /// to a known name to be a slip of the keyboard.
    pub fn misspelt(&self, prefixes: &[&str], known: &[&Variable]) -> Vec<String> {
        let names: Vec<String> = known
            .iter()
            .flat_map(|variable| [Some(variable.name), variable.alias])
            .flatten()
            .map(str::to_lowercase)
            .collect();
        let ours = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(&prefix.to_lowercase()));
        let unknown = self.0.keys().filter(ours).filter(|name| !names.contains(name));
        unknown
            .filter_map(|name| {
                let near = names.iter().map(|known| (distance(name, known), known)).min()?;
                let (edits, known) = near;
                (edits <= 3).then(|| {
                    format!(
                        "{} is not a setting; did you mean {}?",
                        name.to_uppercase(),
                        known.to_uppercase()
                    )
                })
            })
            .collect()
    }

    /// One sentence for each proxy that is set: none is used. What may be contacted is decided by the address that is
    /// connected to, which a proxy would hide.
    pub fn unused_proxies(&self) -> impl Iterator<Item = String> {
        let set = PROXIES.into_iter().filter(|name| self.get(name).is_some());
        set.map(|name| format!("{name} is set and not used: hosts are connected to directly"))
    }
}

/// Variables that programs of other kinds take a proxy from.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut next = vec![index + 1];
        for ((to, window), left_cost) in right.iter().zip(row.windows(2)).zip(0..) {
            let &[diagonal, above] = window else { continue };
            let left_cell = next.get::<usize>(left_cost).copied().unwrap_or(usize::MAX - 1);
            let replaced = diagonal + usize::from(from != *to);
            next.push(replaced.min(above + 1).min(left_cell + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Variable =
        Variable { name: "INGESTER_HIGH_WATER_MARK", alias: None, expects: "", default: None, help: "" };

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn unset_and_empty_are_the_same() {
        let env = environment(&[("A", "  "), ("B", " x ")]);
        assert_eq!(env.get("A"), None);
        assert_eq!(env.get("B"), Some("x"));
        assert_eq!(env.get("C"), None);
    }

    #[test]
    fn names_the_setting_that_was_probably_meant() {
        let env =
            environment(&[("INGESTER_HIGHWATER_MARK", "1"), ("INGESTER_SOMETHING_ELSE", "1"), ("PATH", "/")]);
        let said = env.misspelt(&["INGESTER_"], &[&MARK]);
        assert_eq!(
            said,
            ["INGESTER_HIGHWATER_MARK is not a setting; did you mean INGESTER_HIGH_WATER_MARK?"]
        );
    }

    #[test]
    fn distance_is_levenshtein() {
        for (left, right, edits) in [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }
}
