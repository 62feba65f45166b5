//! Signatures of labels, in the shapes they are queued in: `{"$bytes": …}` (DECISIONS 4), the reference's
//! `{"type":"Buffer","data":[…]}`, old rsky's array of numbers. Whatever else is there in their place is passed over without
//! being kept.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(serde::Deserialize)]
struct Entry {
    label: Option<Signed>,
    labels: Option<Vec<Signed>>,
}

#[derive(serde::Deserialize)]
struct Signed {
    #[serde(default)]
    sig: Bytes,
}

/// The signature of each label of an entry, in order; `None` for one that has none or none that can be read. What is
/// no entry gives nothing.
pub(super) fn read(payload: &str) -> Vec<Option<Box<[u8]>>> {
    if !payload.contains("\"sig\"") {
        return Vec::new();
    }
    let Ok(entry) = serde_json::from_str::<Entry>(payload) else { return Vec::new() };
    let labels = entry.label.into_iter().chain(entry.labels.into_iter().flatten());
    labels.map(|label| label.sig.0).collect()
}

/// Bytes in one of the shapes; `None` for anything else.
#[derive(Default)]
struct Bytes(Option<Box<[u8]>>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Found::deserialize(deserializer)? {
            Found::Bytes(bytes) | Found::Object(bytes) => Self(bytes),
            Found::Number(_) | Found::Text(_) | Found::Other => Self(None),
        })
    }
}

/// A value, as far as it can be bytes or a part of them.
enum Found<'de> {
    Number(u8),
    Text(Cow<'de, str>),
    /// An array, with its bytes if it has nothing else.
    Bytes(Option<Box<[u8]>>),
    /// An object, with the bytes of `$bytes` or `data`.
    Object(Option<Box<[u8]>>),
    Other,
}

impl<'de> Deserialize<'de> for Found<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier)]
enum Name {
    #[serde(rename = "$bytes")]
    Base64,
    #[serde(rename = "data")]
    Data,
    #[serde(other)]
    Other,
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Found<'de>, E> {
        Ok(Found::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found<'de>, E> {
        Ok(Found::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found<'de>, E> {
        Ok(Found::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found<'de>, E> {
        Ok(Found::Other)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Found<'de>, E> {
        Ok(u8::try_from(value).map_or(Found::Other, Found::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found<'de>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(item) = items.next_element()? {
            let Found::Number(byte) = item else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Found::Bytes(None));
            };
            bytes.push(byte);
        }
        Ok(Found::Bytes(Some(bytes.into_boxed_slice())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found<'de>, A::Error> {
        let (mut base64, mut data) = (None, None);
        while let Some(name) = members.next_key::<Name>()? {
            match name {
                Name::Base64 => {
                    base64 = Some(match members.next_value()? {
                        Found::Text(text) => BASE64.decode(text.as_ref()).ok().map(Vec::into_boxed_slice),
                        _ => None,
                    });
                }
                Name::Data => {
                    data = match members.next_value()? {
                        Found::Bytes(bytes) => bytes,
                        _ => None,
                    };
                }
                Name::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Found::Object(base64.unwrap_or(data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        for sig in
            [r#"{"$bytes":"AQI"}"#, r#"{"$bytes":"AQI="}"#, r#"{"type":"Buffer","data":[1,2]}"#, "[1,2]"]
        {
            assert_eq!(
                read(&format!(r#"{{"type":"label","label":{{"sig":{sig}}}}}"#)),
                [Some([1, 2].into())],
                "{sig}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let entry =
            r#"{"labels":[{"sig":{"$bytes":"*"}},{"sig":[256]},{"sig":null},{},{"sig":[3]},{"sig":"AQI"}]}"#;
        assert_eq!(read(entry), [None, None, None, None, Some([3].into()), None]);
        assert_eq!(read(r#"{"sig":"#), Vec::<Option<Box<[u8]>>>::new());
    }
}
