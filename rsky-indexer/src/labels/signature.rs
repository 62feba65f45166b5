//! Signatures of labels, in the shapes they are queued in: `{"$bytes": …}` (DECISIONS 4), the reference's
//! `{"type":"Buffer","data":[…]}`, old rsky's array of numbers.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::Value;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Deserialize)]
struct Entry {
    label: Option<Signed>,
    labels: Option<Vec<Signed>>,
}

#[derive(Deserialize)]
struct Signed {
    sig: Option<Value>,
}

/// The signature of each label of an entry, in order; `None` for one that has none or none that can be read. What is
/// no entry gives nothing.
pub(super) fn read(payload: &str) -> Vec<Option<Vec<u8>>> {
    if !payload.contains("\"sig\"") {
        return Vec::new();
    }
    let Ok(entry) = serde_json::from_str::<Entry>(payload) else { return Vec::new() };
    let labels = entry.label.into_iter().chain(entry.labels.into_iter().flatten());
    labels.map(|label| bytes(&label.sig?)).collect()
}

fn bytes(sig: &Value) -> Option<Vec<u8>> {
    if let Some(text) = sig.get("$bytes") {
        return BASE64.decode(text.as_str()?).ok();
    }
    let numbers = sig.get("data").unwrap_or(sig).as_array()?;
    numbers.iter().map(|number| u8::try_from(number.as_u64()?).ok()).collect()
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
                [Some(vec![1, 2])],
                "{sig}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let entry =
            r#"{"labels":[{"sig":{"$bytes":"*"}},{"sig":[256]},{"sig":null},{},{"sig":[3]},{"sig":"AQI"}]}"#;
        assert_eq!(read(entry), [None, None, None, None, Some(vec![3]), None]);
        assert_eq!(read(r#"{"sig":"#), Vec::<Option<Vec<u8>>>::new());
    }
}
