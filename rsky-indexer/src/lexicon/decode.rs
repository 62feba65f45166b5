//! What JSON objects stand for in the atproto data model: links, bytes and blobs (PIPELINE 3.5 and 3.6).

use rsky_common::atproto::cid_text::{check_cid, strip_padding};

use super::invalid::Undecodable;
use crate::text::json::Json;

/// A reference to a blob. `cid` is as written: in base58 it may be for a blob of the legacy form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob<'a> {
    pub cid: &'a str,
    pub mime_type: &'a str,
}

/// The CID of `{"$link": "…"}`, as written.
pub fn as_link<'a>(value: &'a Json<'_>) -> Option<&'a str> {
    as_single(value, "$link")
}

/// The base64 text of `{"$bytes": "…"}`.
pub fn as_bytes<'a>(value: &'a Json<'_>) -> Option<&'a str> {
    as_single(value, "$bytes")
}

fn as_single<'a>(value: &'a Json<'_>, name: &str) -> Option<&'a str> {
    match value.as_object()? {
        [(key, Json::String(text))] if key == name => Some(text),
        _ => None,
    }
}

/// The blob that `value` is, in the typed form (exactly `$type`, `ref`, `mimeType` and a `size`, which may be any
/// number) or the legacy one (exactly `cid` and `mimeType`).
pub fn as_blob<'a>(value: &'a Json<'_>) -> Option<Blob<'a>> {
    as_legacy_blob(value).or_else(|| {
        let is_typed = value.as_object()?.len() == 4 && value.get("$type")?.as_str()? == "blob";
        value.get("size")?.as_f64().filter(|_| is_typed)?;
        Some(Blob { cid: as_link(value.get("ref")?)?, mime_type: value.get("mimeType")?.as_str()? })
    })
}

fn as_legacy_blob<'a>(value: &'a Json<'_>) -> Option<Blob<'a>> {
    if value.as_object()?.len() != 2 {
        return None;
    }
    Some(Blob { cid: value.get("cid")?.as_str()?, mime_type: value.get("mimeType")?.as_str()? })
}

/// Whether every link, byte string and legacy blob in `value` can be read, known field or not.
///
/// # Errors
/// The first that cannot.
pub fn check_decodable(value: &Json<'_>) -> Result<(), Undecodable> {
    match value {
        Json::Array(items) => items.iter().try_for_each(check_decodable),
        Json::Object(entries) => {
            if entries.len() == 1 {
                if let Some(cid) = as_link(value) {
                    return check_cid(cid).map_err(Undecodable::Cid);
                }
                if let Some(text) = as_bytes(value) {
                    return check_base64(text.as_bytes());
                }
            }
            if let Some(blob) = as_legacy_blob(value) {
                return check_cid(blob.cid).map_err(Undecodable::Cid);
            }
            entries.iter().try_for_each(|(_, value)| check_decodable(value))
        }
        _ => Ok(()),
    }
}

/// The standard alphabet, with or without padding; the bits that fill up the last character are zero.
fn check_base64(text: &[u8]) -> Result<(), Undecodable> {
    let text = strip_padding(text);
    let mut last = 0;
    for &b in text {
        last = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(Undecodable::NotBase64),
        };
    }
    let unused_bits = match text.len() % 4 {
        1 => return Err(Undecodable::Base64End),
        2 => 0b1111,
        3 => 0b11,
        _ => 0,
    };
    if last & unused_bits == 0 { Ok(()) } else { Err(Undecodable::Base64End) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";

    fn is_blob(text: &str) -> bool {
        as_blob(&Json::parse(&text.replace("CID", CID)).unwrap()).is_some()
    }

    #[test]
    fn blobs() {
        for good in [
            r#"{"$type":"blob","ref":{"$link":"CID"},"mimeType":"image/png","size":1}"#,
            r#"{"size":-1.5,"mimeType":"","ref":{"$link":"CID"},"$type":"blob"}"#,
            r#"{"cid":"CID","mimeType":"x"}"#,
            r#"{"mimeType":"x","cid":"CID"}"#,
        ] {
            assert!(is_blob(good), "{good}");
        }
        for bad in [
            r#"{"$type":"blob","ref":{"$link":"CID"},"mimeType":"x","size":"1"}"#,
            r#"{"$type":"blob","ref":{"$link":"CID"},"mimeType":"x","size":1,"extra":1}"#,
            r#"{"$type":"blob","ref":{"$link":"CID","a":1},"mimeType":"x","size":1}"#,
            r#"{"$type":"blob","ref":"CID","mimeType":"x","size":1}"#,
            r#"{"$type":"blob#","ref":{"$link":"CID"},"mimeType":"x","size":1}"#,
            r#"{"$type":"blob","ref":{"$link":"CID"},"mimeType":null,"size":1}"#,
            r#"{"$type":"blob","ref":{"$link":"CID"},"size":1,"a":1}"#,
            r#"{"cid":"CID","mimeType":"x","size":1}"#,
            r#"{"cid":{"$link":"CID"},"mimeType":"x"}"#,
            r#"["CID"]"#,
        ] {
            assert!(!is_blob(bad), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_anywhere_in_a_record() {
        for (text, error) in [
            (r#"{"a":[{"b":{"$link":"bad"}}]}"#, Some("Unexpected end of data")),
            (r#"{"a":{"$link":"bad","b":1}}"#, None),
            (r#"{"a":{"$link":5}}"#, None),
            (r#"{"$bytes":"AQI"}"#, None),
            (r#"{"$bytes":"AQI="}"#, None),
            (r#"{"$bytes":""}"#, None),
            (r#"{"$bytes":"+/8"}"#, None),
            (r#"{"$bytes":"_-8"}"#, Some("Non-base64 character")),
            (r#"{"$bytes":"AQJ"}"#, Some("Unexpected end of data")),
            (r#"{"$bytes":"AQIDA"}"#, Some("Unexpected end of data")),
            (r#"{"$bytes":"A=QI"}"#, Some("Non-base64 character")),
            (r#"[{"cid":"bad","mimeType":"x"}]"#, Some("Unexpected end of data")),
            (r#"[{"cid":"bad","mimeType":"x","size":1}]"#, None),
            (
                r#"{"$type":"blob","ref":{"$link":"bad"},"mimeType":"x","size":1}"#,
                Some("Unexpected end of data"),
            ),
        ] {
            let found = check_decodable(&Json::parse(text).unwrap());
            assert_eq!(found.err().map(|error| error.to_string()).as_deref(), error, "{text}");
        }
    }
}
