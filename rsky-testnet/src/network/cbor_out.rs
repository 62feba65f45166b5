//! A canonical DAG-CBOR encoder, small and independent of the decoder under test.

use cid::Cid;
use cid::multihash::Multihash;
use sha2::{Digest, Sha256};

/// Codec of DAG-CBOR blocks in a CID.
const DAG_CBOR: u64 = 0x71;
/// Multihash code of SHA-256.
const SHA2_256: u64 = 0x12;

/// A DAG-CBOR value; maps are sorted when they are encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Cbor {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer in its shortest form.
    Int(i64),
    /// An unsigned integer in the nine byte form whatever its value, so that it can be patched in place. It is
    /// canonical from 2^32 on.
    WideUint(u64),
    /// A float in the nine byte form, the only one DAG-CBOR has.
    Float(f64),
    /// A text string.
    Text(String),
    /// A byte string.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Cbor>),
    /// A map, encoded in canonical order: shorter keys first, then bytewise.
    Map(Vec<(String, Cbor)>),
    /// A CID: tag 42 around the binary form with its 0x00 prefix.
    Link(Cid),
    /// Bytes put in as they are, for values that no correct encoder writes.
    Raw(Vec<u8>),
}

impl Cbor {
    /// A map from pairs.
    pub fn map<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Cbor)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// A text string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode_into(&mut out);
        out
    }

    /// Appends the encoding to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0xf6),
            Self::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
            Self::Int(value) if *value >= 0 => head(0, value.unsigned_abs(), out),
            Self::Int(value) => head(1, value.unsigned_abs() - 1, out),
            Self::WideUint(value) => {
                out.push(0x1b);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Float(value) => {
                out.push(0xfb);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Text(text) => {
                head(3, text.len() as u64, out);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => {
                head(2, bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Self::List(items) => {
                head(4, items.len() as u64, out);
                items.iter().for_each(|item| item.encode_into(out));
            }
            Self::Map(pairs) => {
                head(5, pairs.len() as u64, out);
                for (key, value) in in_order(pairs) {
                    head(3, key.len() as u64, out);
                    out.extend_from_slice(key.as_bytes());
                    value.encode_into(out);
                }
            }
            Self::Link(cid) => {
                let bytes = cid.to_bytes();
                out.extend_from_slice(&[0xd8, 42]);
                head(2, bytes.len() as u64 + 1, out);
                out.push(0);
                out.extend_from_slice(&bytes);
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The JSON text of the value as the pipeline writes records (PIPELINE 3.5): keys in canonical order, `$link` and
    /// `$bytes`. `Raw` becomes `null`; it has no JSON form.
    pub fn write_json(&self, out: &mut String) {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD_NO_PAD;
        match self {
            Self::Null | Self::Raw(_) => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::WideUint(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&value.to_string()),
            Self::Text(text) => json_string(text, out),
            Self::Bytes(bytes) => {
                out.push_str("{\"$bytes\":\"");
                STANDARD_NO_PAD.encode_string(bytes, out);
                out.push_str("\"}");
            }
            Self::Link(cid) => {
                out.push_str("{\"$link\":\"");
                out.push_str(&cid.to_string());
                out.push_str("\"}");
            }
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Map(pairs) => {
                out.push('{');
                for (index, (key, value)) in in_order(pairs).into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    json_string(key, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// The CID of a DAG-CBOR block: version 1, SHA-256.
pub fn cid_of(block: &[u8]) -> Cid {
    let digest = Sha256::digest(block);
    Cid::new_v1(DAG_CBOR, Multihash::wrap(SHA2_256, &digest).expect("32 bytes fit a multihash of 64"))
}

/// Appends `text` as a JSON string.
pub(crate) fn json_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("a string always serialises"));
}

/// Appends the head of a data item: major type and argument in the shortest form.
pub(crate) fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn in_order(pairs: &[(String, Cbor)]) -> Vec<(&str, &Cbor)> {
    let mut sorted: Vec<(&str, &Cbor)> = pairs.iter().map(|(key, value)| (key.as_str(), value)).collect();
    sorted.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.0.cmp(b.0)));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_sorted_shorter_keys_first() {
        let value = Cbor::map([("op", Cbor::Int(1)), ("t", Cbor::text("#info"))]);
        assert_eq!(value.encode(), b"\xa2\x61t\x65#info\x62op\x01");
    }

    #[test]
    fn integers_take_their_shortest_form() {
        for (value, expected) in [
            (23, vec![0x17]),
            (24, vec![0x18, 24]),
            (256, vec![0x19, 1, 0]),
            (65_536, vec![0x1a, 0, 1, 0, 0]),
            (1 << 32, vec![0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
            (-1, vec![0x20]),
            (-25, vec![0x38, 24]),
            (i64::MIN, vec![0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            assert_eq!(Cbor::Int(value).encode(), expected, "{value}");
        }
        assert_eq!(Cbor::WideUint(1 << 32).encode(), Cbor::Int(1 << 32).encode());
    }

    #[test]
    fn the_cid_of_an_empty_map_is_the_well_known_one() {
        let cid = cid_of(&Cbor::Map(Vec::new()).encode());
        assert_eq!(cid.to_string(), "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua");
    }

    #[test]
    fn json_has_the_wire_form_of_links_and_bytes() {
        let cid = cid_of(b"\xa0");
        let value =
            Cbor::map([("long", Cbor::Bytes(vec![1, 2])), ("a", Cbor::Link(cid)), ("b", Cbor::text("\"x"))]);
        let mut json = String::new();
        value.write_json(&mut json);
        assert_eq!(json, format!(r#"{{"a":{{"$link":"{cid}"}},"b":"\"x","long":{{"$bytes":"AQI"}}}}"#));
    }
}
