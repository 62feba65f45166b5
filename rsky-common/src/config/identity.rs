//! The settings of everything that asks who an account is.

use url::Url;

use super::{Settings, Variable};

/// The PLC directory.
pub const PLC_URL: Variable = Variable {
    name: "PLC_URL",
    alias: None,
    expects: "a URL",
    default: Some("https://plc.directory"),
    help: "The PLC directory.",
};
/// Whether hosts on private addresses are contacted.
pub const ALLOW_PRIVATE_ADDRESSES: Variable = Variable {
    name: "ALLOW_PRIVATE_ADDRESSES",
    alias: None,
    expects: "true or false",
    default: Some("false"),
    help: "Contact hosts on private addresses and over plain http: development, private networks.",
};

impl Settings {
    /// A URL with a host that is asked over http or https; `None` when it is unset, or after a fault.
    pub fn http_url(&mut self, variable: &Variable) -> Option<Url> {
        self.parse_optional(variable, |text| {
            Url::parse(text).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
        })
    }
}
