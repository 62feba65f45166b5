//! Looking into records, and the JSON text that is stored of them.

use crate::network::cbor_out::Cbor;

/// A member of a map.
pub(super) fn member<'a>(value: &'a Cbor, name: &str) -> Option<&'a Cbor> {
    let Cbor::Map(members) = value else { return None };
    members.iter().find(|(own, _)| own == name).map(|(_, value)| value)
}

/// A member of a member of a map.
pub(super) fn inner<'a>(value: &'a Cbor, names: &[&str]) -> Option<&'a Cbor> {
    names.iter().try_fold(value, |value, name| member(value, name))
}

/// Text that is found by names.
pub(super) fn text<'a>(value: &'a Cbor, names: &[&str]) -> Option<&'a str> {
    match inner(value, names)? {
        Cbor::Text(text) => Some(text),
        _ => None,
    }
}

/// The items of a list that is found by names; none where there is no list.
pub(super) fn items<'a>(value: &'a Cbor, names: &[&str]) -> &'a [Cbor] {
    match inner(value, names) {
        Some(Cbor::List(items)) => items,
        _ => &[],
    }
}

/// The type of an object.
pub(super) fn kind(value: &Cbor) -> &str {
    text(value, &["$type"]).unwrap_or_default()
}

/// The CID of a blob, in either of its forms.
pub(super) fn blob(value: Option<&Cbor>) -> Option<String> {
    let value = value?;
    match member(value, "ref") {
        Some(Cbor::Link(cid)) => Some(cid.to_string()),
        _ => text(value, &["cid"]).map(str::to_owned),
    }
}

/// The text that is stored (PIPELINE 3.5): members in the order of DAG-CBOR, but those of blobs in an order of their own.
pub(super) fn json(value: &Cbor) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Cbor, out: &mut String) {
    match value {
        Cbor::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Cbor::Map(members) => {
            let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_by_key(|name| (name.len(), name.to_owned()));
            if kind(value) == "blob" {
                names = vec!["$type", "ref", "mimeType", "size"];
            }
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                Cbor::text(name).write_json(out);
                out.push(':');
                write(member(value, name).expect("its own member"), out);
            }
            out.push('}');
        }
        leaf => leaf.write_json(out),
    }
}

/// The parts of an at-uri: host, collection, record key; empty where there is none.
pub(super) fn parts(uri: &str) -> (&str, &str, &str) {
    let mut parts = uri.strip_prefix("at://").unwrap_or(uri).split('/');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

/// The account of an at-uri.
pub(super) fn host(uri: &str) -> &str {
    parts(uri).0
}

/// A time of a record as it is stored (INDEXING 3): in UTC, with milliseconds; what is no time is the beginning of 1970.
pub(super) fn normalised(time: &str) -> String {
    millis(time).map_or_else(|| "1970-01-01T00:00:00.000Z".to_owned(), written)
}

/// Milliseconds since 1970 of a strict datetime.
pub(super) fn millis(time: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> { time.get(range)?.parse().ok() };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let rest = time.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let offset = match zone {
        "Z" => 0,
        zone => {
            let (hours, minutes): (i64, i64) = (zone.get(1..3)?.parse().ok()?, zone.get(4..6)?.parse().ok()?);
            (hours * 60 + minutes) * if zone.starts_with('-') { -1 } else { 1 }
        }
    };
    // Days of the civil calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    Some((((days * 24 + hour) * 60 + minute - offset) * 60 + second) * 1000 + millis)
}

fn written(millis: i64) -> String {
    u64::try_from(millis).map_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned(), rsky_common::clock::iso)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_stored_in_utc() {
        for (time, stored) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z"),
            ("2026-01-01T09:30:00.5+09:00", "2026-01-01T00:30:00.500Z"),
            ("2025-12-31T20:30:00.123456-03:30", "2026-01-01T00:00:00.123Z"),
            ("soon", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(normalised(time), stored);
        }
    }
}
