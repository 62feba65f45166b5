//! The declaration of one environment variable.

/// One environment variable: what `--help` prints, what a fault says was expected, and its default.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// The name that is documented first.
    pub name: &'static str,
    /// The same setting under the other family's name (PIPELINE §8); both set to different values is a fault.
    pub alias: Option<&'static str>,
    /// Form and unit, as a noun phrase: "entries, 1 to 10000".
    pub expects: &'static str,
    /// The value taken when the variable is unset or empty; `None`: required, or off where the getter is optional.
    pub default: Option<&'static str>,
    /// What it does, and what a higher or lower value leads to.
    pub help: &'static str,
}

/// The variables as text for `--help`.
pub fn help<'a>(variables: impl IntoIterator<Item = &'a Variable>) -> String {
    let mut text = String::from("Environment variables:\n");
    for variable in variables {
        let other = variable.alias.map(|alias| format!(" (or {alias})")).unwrap_or_default();
        let default = variable.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
        text.push_str(&format!(
            "\n  {}{other}: {}{default}\n      {}\n",
            variable.name, variable.expects, variable.help
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_variable_alias_form_default_and_consequence() {
        let port = Variable {
            name: "PORT",
            alias: Some("OTHER"),
            expects: "a port",
            default: Some("1"),
            help: "Where.",
        };
        let text = help([&port]);
        assert!(text.contains("PORT (or OTHER): a port [default: 1]\n      Where."), "{text}");
    }
}
