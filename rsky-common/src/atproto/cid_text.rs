//! CIDs in text, read: the one place that says what is one, with the tolerance of the reference's parser (multiformats 9.9, VALIDATION 4).
//!
//! The `cid` crate is stricter in what is forbidden by no lexicon (version 0 in base32, padded varints, digests of
//! more than 64 bytes) and knows more multibases, so it gives other verdicts.

use thiserror::Error;

/// Base58 is read in quadratic time; longer text is refused. The CIDs of records have 46 to 60 characters.
const MAX_BASE58_CHARS: usize = 1024;

/// Version, codec, hash function and digest length, each a varint of at most 8 bytes.
const HEADER_BYTES: usize = 4 * 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CidError {
    #[error("To parse non base32 or base58btc encoded CID multibase decoder must be provided")]
    UnknownBase,
    #[error("Non-base32 character")]
    NotBase32,
    #[error("Non-base58btc character")]
    NotBase58,
    #[error("base58btc text of more than 1024 characters")]
    TooLong,
    #[error("Unexpected end of data")]
    UnexpectedEnd,
    #[error("Could not decode varint")]
    Varint,
    #[error("Invalid CID version {0}")]
    Version(u64),
    #[error("Incorrect length")]
    Length,
}

/// Whether `text` is a CID: `b` + base32, `z` + base58 or bare base58 starting with `Q`, of version 0 or 1, any codec
/// and hash function, and a digest of the length that it states.
///
/// # Errors
/// What is wrong with it.
pub fn check_cid(text: &str) -> Result<(), CidError> {
    let decoded = match text.as_bytes() {
        [b'b', rest @ ..] => decode_base32(rest),
        [b'z', rest @ ..] => decode_base58(rest),
        whole @ [b'Q', ..] => decode_base58(whole),
        _ => Err(CidError::UnknownBase),
    }?;
    let mut header = decoded.header();
    let first = varint(&mut header)?;
    match first {
        0 => {}
        1 => {
            varint(&mut header)?;
        }
        // A version 0 has no version: it starts with its hash function, which is SHA-256.
        0x12 => header = decoded.header(),
        other => return Err(CidError::Version(other)),
    }
    varint(&mut header)?;
    let digest_len = varint(&mut header)?;
    let header_len = decoded.header().len() - header.len();
    let is_complete =
        usize::try_from(digest_len).is_ok_and(|len| header_len.checked_add(len) == Some(decoded.len));
    if is_complete { Ok(()) } else { Err(CidError::Length) }
}

/// The first bytes of decoded text, and how many there are in all.
struct Decoded {
    start: [u8; HEADER_BYTES],
    len: usize,
}

impl Decoded {
    fn new() -> Self {
        Decoded { start: [0; HEADER_BYTES], len: 0 }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.start.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    fn header(&self) -> &[u8] {
        self.start.get(..self.len).unwrap_or(&self.start)
    }
}

/// A varint of up to 8 bytes; leading zeros (a last byte of 0) are tolerated.
fn varint(bytes: &mut &[u8]) -> Result<u64, CidError> {
    let mut value = 0;
    for shift in (0..8).map(|n| n * 7) {
        let (&byte, rest) = bytes.split_first().ok_or(CidError::Varint)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(CidError::Varint)
}

fn decode_base32(text: &[u8]) -> Result<Decoded, CidError> {
    let mut decoded = Decoded::new();
    let mut buffer = 0_u32;
    let mut bits = 0;
    for &b in strip_padding(text) {
        let value = match b {
            b'a'..=b'z' => b - b'a',
            b'2'..=b'7' => b - b'2' + 26,
            _ => return Err(CidError::NotBase32),
        };
        buffer = (buffer << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            decoded.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    if bits >= 5 || buffer != 0 { Err(CidError::UnexpectedEnd) } else { Ok(decoded) }
}

/// Padding is not asked for, and as much of it as there is is passed over.
pub fn strip_padding(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&b| b != b'=').map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

fn decode_base58(text: &[u8]) -> Result<Decoded, CidError> {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if text.len() > MAX_BASE58_CHARS {
        return Err(CidError::TooLong);
    }
    // The number that the digits stand for, lowest 32 bits first. A digit has less than six bits.
    let mut number: Vec<u32> = Vec::with_capacity(text.len() * 6 / 32 + 1);
    for b in text {
        let digit = ALPHABET.iter().position(|a| a == b).ok_or(CidError::NotBase58)?;
        let mut carry = digit as u64;
        for part in &mut number {
            carry += u64::from(*part) * 58;
            *part = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            number.push(carry as u32);
        }
    }
    let mut decoded = Decoded::new();
    // Each leading `1` is a zero byte of its own.
    for _ in text.iter().take_while(|&&b| b == b'1') {
        decoded.push(0);
    }
    let bytes = number.into_iter().rev().flat_map(u32::to_be_bytes);
    for byte in bytes.skip_while(|byte| *byte == 0) {
        decoded.push(byte);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
    const V0: &str = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR";
    const V1_BASE58: &str = "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7";

    #[test]
    fn cids() {
        for good in [V1, V0, V1_BASE58] {
            assert_eq!(check_cid(good), Ok(()), "{good}");
            assert!(good.parse::<cid::Cid>().is_ok(), "{good}");
        }
        assert_eq!(check_cid(&format!("{V1}==")), Ok(()));
    }

    #[test]
    fn what_is_wrong_with_others() {
        for (text, error) in [
            ("", CidError::UnknownBase),
            ("notacid", CidError::UnknownBase),
            ("BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ", CidError::UnknownBase),
            ("bad", CidError::UnexpectedEnd),
            ("b", CidError::Varint),
            ("bafy/", CidError::NotBase32),
            ("bAFY", CidError::NotBase32),
            ("baibq", CidError::Version(2)),
            ("Qm0", CidError::NotBase58),
            (V1.get(..56).unwrap(), CidError::Length),
            (V1.get(..58).unwrap(), CidError::UnexpectedEnd),
        ] {
            assert_eq!(check_cid(text), Err(error), "{text}");
        }
        assert!(check_cid("Qm").is_err() && check_cid(V0.get(..45).unwrap()).is_err());
        assert_eq!(check_cid(&format!("{V1}a")), Err(CidError::UnexpectedEnd));
        assert_eq!(check_cid(&format!("{V1}aaaaaaaa")), Err(CidError::Length));
        assert_eq!(check_cid(&format!("z{}", "2".repeat(1025))), Err(CidError::TooLong));
    }

    #[test]
    fn forms_that_stricter_parsers_refuse() {
        for (bytes, is_cid) in [
            // Version 0 written in base32, with and without a version byte, and with another hash function.
            (&[0x12, 2, 7, 7][..], true),
            (&[0, 0x12, 2, 7, 7], true),
            (&[0, 0x55, 0], true),
            // Padded varints.
            (&[0x81, 0, 0x55, 0x12, 0x82, 0x80, 0, 7, 7], true),
            (&[1, 0x55, 0x12, 2, 7], false),
            (&[1, 0x55, 0x12, 2, 7, 7, 7], false),
            (&[2, 0x55, 0x12, 1, 7], false),
            (&[1, 0x55, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0], false),
            (&[1, 0x55, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], false),
        ] {
            let text = format!("b{}", base32(bytes));
            assert_eq!(check_cid(&text).is_ok(), is_cid, "{text}");
        }
        // An identity hash of 300 bytes.
        let mut long = vec![1, 0x55, 0, 0xac, 2];
        long.resize(305, 9);
        assert_eq!(check_cid(&format!("b{}", base32(&long))), Ok(()));
    }

    fn base32(bytes: &[u8]) -> String {
        let mut out = String::new();
        let bit = |i: usize| bytes.get(i / 8).map_or(0, |b| (b >> (7 - i % 8)) & 1);
        for start in (0..bytes.len() * 8).step_by(5) {
            let value = (start..start + 5).fold(0, |value, i| value * 2 + bit(i));
            out.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(value)]));
        }
        out
    }
}
