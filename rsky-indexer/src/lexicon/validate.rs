//! The interpreter of lexicons: the same rules in the same order as the reference (VALIDATION 1 and 2).

use super::Edition;
use super::decode::{as_blob, as_bytes, check_decodable};
use super::invalid::{Invalid, Reason, Segment};
use super::schema::{Array, Member, Object, Type};
use super::strings::check_text;
use crate::text::json::Json;

/// How much of a wrong `$type` is repeated in an error.
const MAX_QUOTED_CHARS: usize = 200;

/// Whether the reference AppView would take `record` for one of `collection`.
///
/// # Errors
/// The first reason why not; [`Invalid::UnknownCollection`] if there is no lexicon to decide by.
pub fn validate(collection: &str, record: &Json<'_>) -> Result<(), Invalid> {
    validate_in(Edition::Reference, collection, record)
}

/// Whether the AppView of an edition would take `record` for one of `collection`, as loosely as the reference looks.
///
/// # Errors
/// See [`validate`].
pub fn validate_in(edition: Edition, collection: &str, record: &Json<'_>) -> Result<(), Invalid> {
    let known = edition.record(collection).ok_or(Invalid::UnknownCollection)?;
    check_decodable(record)?;
    if !is_object(record) {
        return Err(Reason::NotA("an object").into());
    }
    let Some(type_name) = type_of(record) else {
        return Err(Invalid::from(Reason::NotA("a string")).within(Segment::Key("$type")));
    };
    if lexicon_name(type_name)? != known.nsid {
        let found = type_name.chars().take(MAX_QUOTED_CHARS).collect::<String>().into();
        return Err(Invalid::WrongType { expected: known.nsid, found });
    }
    check_object(known.object, record)
}

fn check(rule: &Type, value: &Json<'_>) -> Result<(), Invalid> {
    match rule {
        Type::String(rules) => match value {
            Json::String(text) => Ok(check_text(rules, text)?),
            _ => Err(Reason::NotA("a string").into()),
        },
        Type::Integer { minimum } => check_integer(*minimum, value),
        Type::Boolean => match value {
            Json::Bool(_) => Ok(()),
            _ => Err(Reason::NotA("a boolean").into()),
        },
        Type::Bytes => as_bytes(value).map(drop).ok_or_else(|| Reason::NotA("a byte array").into()),
        Type::Blob => as_blob(value).map(drop).ok_or_else(|| Reason::NotABlob.into()),
        Type::Ref(object) => check_object(object, value),
        Type::Array(array) => check_array(array, value),
        Type::Union(members) => check_union(members, value),
    }
}

fn check_integer(minimum: Option<i32>, value: &Json<'_>) -> Result<(), Invalid> {
    let number = value.as_f64().filter(|number| number.fract() == 0.0).ok_or(Reason::NotA("an integer"))?;
    match minimum {
        Some(minimum) if number < f64::from(minimum) => Err(Reason::TooSmall(minimum).into()),
        _ => Ok(()),
    }
}

fn check_object(object: &Object, value: &Json<'_>) -> Result<(), Invalid> {
    if !is_object(value) {
        return Err(Reason::NotA("an object").into());
    }
    for property in object.0 {
        match value.get(property.name) {
            Some(value) => {
                check(&property.rule, value).map_err(|error| error.within(Segment::Key(property.name)))?;
            }
            None if property.is_required => return Err(Reason::Missing(property.name).into()),
            None => {}
        }
    }
    Ok(())
}

fn check_array(array: &Array, value: &Json<'_>) -> Result<(), Invalid> {
    let items = value.as_array().ok_or(Reason::NotA("an array"))?;
    if let Some(max) = array.max_items.filter(|&max| items.len() > max) {
        return Err(Reason::TooManyItems(max).into());
    }
    items
        .iter()
        .enumerate()
        .try_for_each(|(i, item)| check(&array.items, item).map_err(|error| error.within(Segment::Index(i))))
}

fn check_union(members: &[Member], value: &Json<'_>) -> Result<(), Invalid> {
    let name = lexicon_name(type_of(value).ok_or(Reason::NoType)?)?;
    // A main definition has two names.
    let name = name.strip_suffix("#main").unwrap_or(name);
    members
        .iter()
        .find(|member| member.id == name)
        .map_or(Ok(()), |member| check_object(member.object, value))
}

/// Arrays, links, bytes and blobs count as objects, without properties.
fn is_object(value: &Json<'_>) -> bool {
    matches!(value, Json::Object(_) | Json::Array(_))
}

/// The `$type` of an object, if it is a string. A blob has none: its `$type` is used up when it is decoded.
fn type_of<'a>(value: &'a Json<'_>) -> Option<&'a str> {
    let name = value.get("$type")?.as_str()?;
    (name != "blob" || as_blob(value).is_none()).then_some(name)
}

/// A `$type` without the prefix `lex:`.
fn lexicon_name(type_name: &str) -> Result<&str, Invalid> {
    if type_name.matches('#').nth(1).is_some() {
        return Err(Invalid::MalformedType("Uri can only have one hash segment"));
    }
    if type_name.starts_with('#') {
        return Err(Invalid::MalformedType("Unable to resolve uri without anchor"));
    }
    Ok(type_name.strip_prefix("lex:").unwrap_or(type_name))
}
