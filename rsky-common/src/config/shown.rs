//! The settings as they may be shown: without anything secret.

use serde::Serialize;

use super::{Environment, Secret, Variable};

/// A setting as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The name that is documented first.
    #[serde(skip)]
    pub name: &'static str,
    /// Its value, or its default; `None`: neither.
    pub value: Option<String>,
    /// Whether it was set.
    pub set: bool,
}

/// Longest value.
const MOST: usize = 500;

/// The settings of these declarations in this environment. Of URLs only what is no secret is shown: no user, no password,
/// no query. Nothing else of the environment is.
pub fn shown<'v>(variables: impl IntoIterator<Item = &'v Variable>, environment: &Environment) -> Vec<Shown> {
    let given = |variable: &Variable| {
        environment.get(variable.name).or_else(|| environment.get(variable.alias?)).map(harmless)
    };
    let one = |variable: &Variable| {
        let (given, default) = (given(variable), variable.default.map(str::to_owned));
        let set = given.is_some();
        Shown { name: variable.name, value: given.or(default), set }
    };
    variables.into_iter().map(one).collect()
}

fn harmless(value: &str) -> String {
    let items: Vec<String> = value.split(',').map(item).collect();
    crate::admin::shown(&items.join(","), MOST)
}

fn item(item: &str) -> String {
    // What has a user in it may have a password, whether it has a scheme or not.
    if item.contains("://") || item.contains('@') {
        Secret::new(item.trim()).to_string()
    } else {
        item.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: Variable =
        Variable { name: "URL", alias: Some("OLD_URL"), expects: "", default: None, help: "" };
    const HOSTS: Variable = Variable { name: "HOSTS", alias: None, ..URL };
    const SIZE: Variable = Variable { name: "SIZE", alias: None, default: Some("7"), ..URL };

    #[test]
    fn nothing_secret_is_shown_and_nothing_that_was_not_declared() {
        let pairs = [
            ("OLD_URL", "redis://me:hunter2@cache:6379/1?password=hunter3"),
            ("HOSTS", "wss://a:hunter4@relay, plain.example,b:hunter5@c"),
            ("AWS_SECRET", "hunter6"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let shown = shown([&URL, &HOSTS, &SIZE], &Environment::from_pairs(pairs));
        let values: Vec<(&str, Option<&str>, bool)> =
            shown.iter().map(|shown| (shown.name, shown.value.as_deref(), shown.set)).collect();
        assert_eq!(
            values,
            [
                ("URL", Some("redis://***@cache:6379/1?***"), true),
                ("HOSTS", Some("wss://***@relay, plain.example,***"), true),
                ("SIZE", Some("7"), false),
            ]
        );
    }
}
