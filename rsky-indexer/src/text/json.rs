//! A JSON tree that borrows its strings from the text it was read from.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Objects with more keys than this look for repeated keys by hashing instead of comparing every pair.
const PAIRWISE_KEYS: usize = 24;

/// Lists with more items than this grow slowly.
const LONG: usize = 4096;

/// A JSON value as JavaScript's `JSON.parse` sees it: every number is a double, objects keep their key order,
/// and of a repeated key the last value stands in the place of the first.
///
/// Unlike there, nesting beyond 128 levels, lone surrogates and numbers beyond the range of a double are errors.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Number(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads one JSON value that fills `text`, but for white space around it.
    ///
    /// # Errors
    /// Text that is not JSON, or exceeds the limits named above.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value of `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.as_object()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Json<'a>]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&[(Cow<'a, str>, Json<'a>)]> {
        match self {
            Json::Object(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor(std::marker::PhantomData))
    }
}

struct TreeVisitor<'a>(std::marker::PhantomData<Json<'a>>);

impl<'de: 'a, 'a> Visitor<'de> for TreeVisitor<'a> {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'a>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'a>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'a>, E> {
        Ok(Json::Number(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'a>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'a>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'a>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'a>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Json<'a>, E> {
        Ok(Json::String(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'a>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            push(&mut items, item);
        }
        give_back_room(&mut items);
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'a>, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = access.next_key()? {
            let value = access.next_value()?;
            push(&mut entries, (key, value));
        }
        if has_repeated_key(&entries) {
            entries = merge_repeated_keys(entries);
        }
        give_back_room(&mut entries);
        Ok(Json::Object(entries))
    }
}

/// Long lists grow by an eighth: for a moment the old and the new one are there, and twice as much would be three times.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() && list.len() >= LONG {
        list.reserve_exact(list.len() / 8);
    }
    list.push(item);
}

/// A list of one takes room for four: an array of many such lists would take four times what it needs.
fn give_back_room<T>(list: &mut Vec<T>) {
    if list.capacity() / 2 >= list.len() {
        list.shrink_to_fit();
    }
}

/// An object key; serde's own `Cow<str>` would copy it.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object key")
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(value.to_owned()))
            }
        }

        deserializer.deserialize_str(KeyVisitor).map(Key)
    }
}

fn has_repeated_key(entries: &[(Cow<'_, str>, Json<'_>)]) -> bool {
    if entries.len() > PAIRWISE_KEYS {
        let mut seen = std::collections::HashSet::with_capacity(entries.len());
        return entries.iter().any(|(key, _)| !seen.insert(key.as_ref()));
    }
    let mut rest = entries;
    while let [(key, _), tail @ ..] = rest {
        if tail.iter().any(|(other, _)| other == key) {
            return true;
        }
        rest = tail;
    }
    false
}

fn merge_repeated_keys<'a>(entries: Vec<(Cow<'a, str>, Json<'a>)>) -> Vec<(Cow<'a, str>, Json<'a>)> {
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
    let mut merged: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
    for (key, value) in entries {
        match places.get(&key).and_then(|&place| merged.get_mut(place)) {
            Some(entry) => entry.1 = value,
            None => {
                places.insert(key.clone(), merged.len());
                push(&mut merged, (key, value));
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &Json<'_>) -> Vec<String> {
        json.as_object().unwrap().iter().map(|(key, _)| key.to_string()).collect()
    }

    #[test]
    fn strings_without_escapes_are_borrowed() {
        let json = Json::parse(r#"{"a":"plain","b":"esc\naped"}"#).unwrap();
        assert!(matches!(json.get("a"), Some(Json::String(Cow::Borrowed("plain")))));
        assert_eq!(json.get("b").and_then(Json::as_str), Some("esc\naped"));
        let Json::Object(entries) = &json else { panic!("not an object") };
        assert!(entries.iter().all(|(key, _)| matches!(key, Cow::Borrowed(_))));
    }

    #[test]
    fn every_kind_of_value() {
        let json = Json::parse(r#" [null, true, -1, 1.5, 18446744073709551615, 1e3, "x", {}] "#).unwrap();
        let expected = [
            Json::Null,
            Json::Bool(true),
            Json::Number(-1.0),
            Json::Number(1.5),
            Json::Number(18_446_744_073_709_551_616.0),
            Json::Number(1000.0),
            Json::String(Cow::Borrowed("x")),
            Json::Object(Vec::new()),
        ];
        assert_eq!(json.as_array().unwrap(), expected);
    }

    #[test]
    fn numbers_are_the_nearest_that_there_are() {
        let digits = "2".to_owned() + &"3".repeat(289);
        for text in
            ["2.2337337337337337e+289", "9007199254740993", "1.7976931348623157e308", "5e-324", &digits]
        {
            let json = Json::parse(text).unwrap();
            assert_eq!(json, Json::Number(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_repeated_key_keeps_its_first_place_and_its_last_value() {
        let json = Json::parse(r#"{"a":1,"b":2,"\u0061":3}"#).unwrap();
        assert_eq!(keys(&json), ["a", "b"]);
        assert_eq!(json.get("a"), Some(&Json::Number(3.0)));
    }

    #[test]
    fn repeated_keys_of_a_large_object() {
        let mut text = String::from("{");
        for i in 0..60_000 {
            text.push_str(&format!("\"k{}\":{i},", i % 40_000));
        }
        text.push_str("\"k0\":-1}");
        let json = Json::parse(&text).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 40_000);
        assert_eq!(json.get("k0"), Some(&Json::Number(-1.0)));
        assert_eq!(json.get("k1"), Some(&Json::Number(40_001.0)));
        assert_eq!(keys(&json).first().map(String::as_str), Some("k0"));
    }

    #[test]
    fn what_is_not_accepted() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for text in ["", "{", "{} x", "1e999", r#""\ud800""#, "{\"a\":1,}", deep.as_str()] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }
}
