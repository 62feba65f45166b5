use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::error::WireError;

/// A JSON string, borrowed unless it has escapes. (`Option<Cow<str>>` would always be copied.)
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads an object. An array is refused, which serde would take for the members in their order of declaration.
pub(super) fn read_object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, WireError> {
    if json.trim_ascii_start().starts_with('{') {
        return serde_json::from_str(json).map_err(WireError::Json);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(json).map_err(WireError::Json)?;
    Err(WireError::NotAnObject)
}

/// The member, or the error that names it.
pub(super) fn require<'a>(
    kind: &'static str,
    field: &'static str,
    value: Option<Text<'a>>,
) -> Result<Cow<'a, str>, WireError> {
    value.map(|Text(text)| text).ok_or(WireError::Missing { kind, field })
}

/// A member that may have any shape: `None` unless it is a `T`. No tree is made of another shape, which may be large.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(value.get()).ok())
}
