//! The validator against recorded verdicts of the reference and the vectors of the specification.

use super::{Invalid, validate};
use crate::text::datetime::normalize_datetime;
use crate::text::json::Json;
use crate::text::recordings::{fixture, golden, read_lines};

#[derive(serde::Deserialize)]
struct Case<'a> {
    #[serde(borrow)]
    collection: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    record: Json<'a>,
    valid: bool,
    /// The reference's message.
    #[serde(alias = "error")]
    reason: Option<String>,
    #[serde(rename = "normalizedCreatedAt")]
    normalized_created_at: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
struct Tally {
    valid: usize,
    invalid: usize,
    /// Records of the collection that the reference's indexer does not validate, though its validator could.
    unvalidated: usize,
}

fn compare(lines: &[String]) -> Tally {
    let mut tally = Tally::default();
    let mut disagreements = Vec::new();
    for line in lines {
        let case: Case<'_> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let found = validate(&case.collection, &case.record);
        if case.collection == "chat.bsky.actor.declaration" {
            assert!(matches!(found, Ok(()) | Err(Invalid::Undecodable(_))), "{line}");
            tally.unvalidated += 1;
            continue;
        }
        if case.valid { tally.valid += 1 } else { tally.invalid += 1 }
        let expected = case.reason.as_deref().map(|reason| reason.strip_prefix("ERR ").unwrap_or(reason));
        let message = found.as_ref().err().map(Invalid::to_string);
        // A long `$type` is quoted in part.
        let is_same = match &found {
            Err(Invalid::WrongType { .. }) => expected.is_some_and(|text| text.starts_with(message.as_deref().unwrap())),
            _ => message.as_deref() == expected,
        };
        if found.is_ok() == case.valid && !is_same { println!("TEXT {message:?}, not {expected:?}"); }
        if found.is_ok() != case.valid {
            disagreements.push(format!("{message:?}, not {expected:?}: {line}"));
        }
        if let Some(expected) = &case.normalized_created_at {
            let created_at = case.record.get("createdAt").and_then(Json::as_str).unwrap();
            assert_eq!(normalize_datetime(created_at), expected.as_str());
        }
    }
    assert!(disagreements.is_empty(), "{} disagreements, first: {:#?}", disagreements.len(), disagreements.first());
    tally
}

#[test]
fn golden_records() {
    assert_eq!(compare(&golden("validation")), Tally { valid: 475, invalid: 2448, unvalidated: 15 });
}

#[test]
fn fixture_records() {
    let Some(path) = fixture("lexicon/cases.jsonl.gz") else { return };
    assert_eq!(compare(&read_lines(&path)), Tally { valid: 2182, invalid: 7599, unvalidated: 337 });
}
