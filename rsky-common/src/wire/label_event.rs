//! Entries of `label_live` (PIPELINE 3.4), in the forms of TypeScript (one label) and of old rsky (those of a frame).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::error::WireError;
use super::text::{Text, lenient, read_object, require};

/// A label, without what indexing does not use (`sig` and `ver`, which come in any shape).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label<'a> {
    /// DID of the labeler.
    pub src: Cow<'a, str>,
    /// What is labelled: an at-uri or a DID.
    pub uri: Cow<'a, str>,
    /// The version of the record that is labelled, if only that.
    pub cid: Option<Cow<'a, str>>,
    /// The label.
    pub val: Cow<'a, str>,
    /// Whether the label is taken back.
    pub neg: bool,
    /// When it was made, verbatim.
    pub cts: Cow<'a, str>,
    /// When it ends, verbatim.
    pub exp: Option<Cow<'a, str>>,
}

/// The value of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelEntry<'a> {
    /// Its labels: one in TypeScript's form, any number in old rsky's.
    Labels(Vec<Label<'a>>),
    /// A type that nobody writes; acknowledged without effect.
    Unknown(Cow<'a, str>),
}

#[derive(serde::Deserialize)]
struct Members<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    label: Option<LabelMembers<'a>>,
    #[serde(borrow)]
    labels: Option<Listed<'a>>,
}

/// The labels of an array, or what is wrong with the first that is none: what comes after it is not kept.
struct Listed<'a>(Result<Vec<Label<'a>>, WireError>);

impl<'de: 'a, 'a> Deserialize<'de> for Listed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = Listed<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of labels")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::new();
                while let Some(members) = items.next_element()? {
                    match to_label(members) {
                        Ok(label) => labels.push(label),
                        Err(error) => {
                            while items.next_element::<IgnoredAny>()?.is_some() {}
                            return Ok(Listed(Err(error)));
                        }
                    }
                }
                labels.shrink_to_fit();
                Ok(Listed(Ok(labels)))
            }
        }

        deserializer.deserialize_seq(ListVisitor)
    }
}

#[derive(serde::Deserialize)]
struct LabelMembers<'a> {
    #[serde(borrow)]
    src: Option<Text<'a>>,
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    #[serde(borrow)]
    cid: Option<Text<'a>>,
    #[serde(borrow)]
    val: Option<Text<'a>>,
    #[serde(default, deserialize_with = "lenient")]
    neg: Option<bool>,
    #[serde(borrow)]
    cts: Option<Text<'a>>,
    #[serde(borrow)]
    exp: Option<Text<'a>>,
}

/// Reads the value of an entry of the label stream, whichever its field was called.
///
/// # Errors
/// What cannot be this kind of entry: to be acknowledged and dead-lettered.
pub fn parse_labels(json: &str) -> Result<LabelEntry<'_>, WireError> {
    let members: Members<'_> = read_object(json)?;
    match members.kind {
        Some(Text(kind)) if kind != "label" => return Ok(LabelEntry::Unknown(kind)),
        Some(_) => {
            let label = members.label.ok_or(WireError::Missing { kind: "label", field: "label" })?;
            return Ok(LabelEntry::Labels(vec![to_label(label)?]));
        }
        None => {}
    }
    let Listed(labels) = members.labels.ok_or(WireError::Missing { kind: "label", field: "type" })?;
    labels.map(LabelEntry::Labels)
}

fn to_label(members: LabelMembers<'_>) -> Result<Label<'_>, WireError> {
    Ok(Label {
        src: require("label", "src", members.src)?,
        uri: require("label", "uri", members.uri)?,
        cid: members.cid.map(|Text(cid)| cid),
        val: require("label", "val", members.val)?,
        neg: members.neg.unwrap_or(false),
        cts: require("label", "cts", members.cts)?,
        exp: members.exp.map(|Text(exp)| exp),
    })
}

/// Appends the value of an entry in TypeScript's form; `label` writes the label's JSON.
///
/// # Errors
/// What `label` returns; `out` is then as it was.
pub fn push_label_entry<E>(
    out: &mut String,
    label: impl FnOnce(&mut String) -> Result<(), E>,
) -> Result<(), E> {
    let before = out.len();
    out.push_str("{\"type\":\"label\",\"label\":");
    if let Err(error) = label(out) {
        out.truncate(before);
        return Err(error);
    }
    out.push('}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(json: &str) -> Vec<Label<'_>> {
        match parse_labels(json).unwrap() {
            LabelEntry::Labels(labels) => labels,
            LabelEntry::Unknown(kind) => panic!("unknown type {kind}"),
        }
    }

    #[test]
    fn sig_and_ver_may_have_any_shape() {
        let signatures = [
            r#","sig":{"type":"Buffer","data":[1,2]}"#,
            r#","sig":{"$bytes":"AQI"},"ver":1"#,
            r#","sig":[1,2],"ver":"one""#,
            r#","sig":null,"ver":{}"#,
            "",
        ];
        for sig in signatures {
            let json = format!(
                r#"{{"type":"label","label":{{"cts":"T","src":"did:plc:l","uri":"at://x","val":"porn"{sig}}}}}"#
            );
            let [label] = labels(&json).try_into().unwrap();
            assert_eq!(
                (label.val.as_ref(), label.neg, &label.cid, &label.exp),
                ("porn", false, &None, &None)
            );
        }
    }

    #[test]
    fn optional_members_are_read() {
        let json = r#"{"type":"label","label":{"cid":"bafy","cts":"T","exp":"E","neg":true,"src":"s","uri":"u","val":"v\n"}}"#;
        let [label] = labels(json).try_into().unwrap();
        assert_eq!((label.cid.as_deref(), label.exp.as_deref(), label.neg), (Some("bafy"), Some("E"), true));
        assert_eq!(label.val, "v\n");
    }

    #[test]
    fn old_rsky_writes_the_labels_of_a_frame_together() {
        let json = concat!(
            r#"{"seq":5,"labels":[{"src":"s","uri":"u","cid":null,"val":"a","neg":null,"cts":"T"},"#,
            r#"{"src":"s","uri":"u","val":"b","neg":true,"cts":"T"}]}"#
        );
        let [first, second] = labels(json).try_into().unwrap();
        assert_eq!((first.val.as_ref(), first.neg), ("a", false));
        assert_eq!((second.val.as_ref(), second.neg), ("b", true));
        assert_eq!(labels(r#"{"seq":5,"labels":[]}"#), []);
    }

    #[test]
    fn other_types_and_other_shapes() {
        assert_eq!(parse_labels(r#"{"type":"info"}"#).unwrap(), LabelEntry::Unknown("info".into()));
        for bad in ["null", "{}", r#"{"type":"label"}"#, r#"{"labels":[{"src":"s"}]}"#, r#"{"labels":1}"#] {
            assert!(parse_labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_wraps_its_label() {
        let mut out = String::new();
        let written = push_label_entry(&mut out, |out| {
            out.push_str("{}");
            Ok::<(), ()>(())
        });
        assert_eq!((written, out.as_str()), (Ok(()), r#"{"type":"label","label":{}}"#));
    }
}
