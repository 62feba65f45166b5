//! CIDs as bytes, and the text written for them. Text is read in [`super::cid_text`].

use thiserror::Error;

/// Bytes of a CID as every block of a repository has it: version 1, codec, sha2-256, length 32, digest.
pub const BLOCK_CID_LENGTH: usize = 36;

const RAW: u8 = 0x55;
const DAG_CBOR: u8 = 0x71;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Bytes or text that are no CID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a CID")]
pub struct InvalidCid;

/// The digest of a CID that may name a block: CIDv1, codec raw or dag-cbor, sha2-256 of 32 bytes (PIPELINE 4.3).
#[inline]
pub fn block_digest(cid: &[u8]) -> Option<&[u8; 32]> {
    match cid {
        [1, RAW | DAG_CBOR, 0x12, 0x20, digest @ ..] => digest.try_into().ok(),
        _ => None,
    }
}

/// Appends the text of a CID: base32 for version 1, base58 for version 0.
///
/// # Errors
/// Bytes that are not exactly one CID; `out` is then as it was.
#[inline]
pub fn push_text(out: &mut String, cid: &[u8]) -> Result<(), InvalidCid> {
    if block_digest(cid).is_some() {
        push_base32(out, cid);
        return Ok(());
    }
    push_uncommon(out, cid)
}

/// The text of a CID. See [`push_text`].
///
/// # Errors
/// Bytes that are not exactly one CID.
pub fn to_text(cid: &[u8]) -> Result<String, InvalidCid> {
    let mut text = String::with_capacity(59);
    push_text(&mut text, cid)?;
    Ok(text)
}

#[cold]
fn push_uncommon(out: &mut String, mut bytes: &[u8]) -> Result<(), InvalidCid> {
    let parsed = cid::Cid::read_bytes(&mut bytes).map_err(|_| InvalidCid)?;
    if !bytes.is_empty() {
        return Err(InvalidCid);
    }
    out.push_str(&parsed.to_string());
    Ok(())
}

fn push_base32(out: &mut String, bytes: &[u8]) {
    let mut text = [b'b'; 1 + BLOCK_CID_LENGTH.div_ceil(5) * 8];
    for (five, eight) in bytes.chunks(5).zip(text.get_mut(1..).unwrap_or_default().chunks_mut(8)) {
        let mut group = [0_u8; 8];
        for (slot, byte) in group.iter_mut().skip(3).zip(five) {
            *slot = *byte;
        }
        let bits = u64::from_be_bytes(group);
        for (place, letter) in eight.iter_mut().enumerate() {
            let value = usize::try_from((bits >> (35 - 5 * place)) & 31).unwrap_or(0);
            *letter = ALPHABET.get(value).copied().unwrap_or(b'a');
        }
    }
    let length = 1 + (bytes.len() * 8).div_ceil(5);
    let text = text.get(..length).and_then(|text| str::from_utf8(text).ok());
    out.push_str(text.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "bafyreihxeexyqegnks2kycb3asqr7jlj7jixffzno22dwzwp46va4kkrzu";

    fn bytes_of(text: &str) -> Vec<u8> {
        cid::Cid::try_from(text).unwrap().to_bytes()
    }

    #[test]
    fn quick_and_general_text_agree() {
        for codec in [RAW, DAG_CBOR] {
            for seed in 0..=255_u8 {
                let mut bytes = vec![1, codec, 0x12, 0x20];
                bytes.extend((0..32_u8).map(|at| at.wrapping_mul(37).wrapping_add(seed)));
                let general = cid::Cid::try_from(bytes.as_slice()).unwrap().to_string();
                assert_eq!(to_text(&bytes), Ok(general));
            }
        }
        assert_eq!(to_text(&bytes_of(TEXT)).as_deref(), Ok(TEXT));
    }

    #[test]
    fn uncommon_cids_have_their_text() {
        let version_0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
        assert_eq!(to_text(&bytes_of(version_0)).as_deref(), Ok(version_0));
        let empty_digest = [1, 0x55, 0x12, 0];
        assert_eq!(to_text(&empty_digest).as_deref(), Ok("bafkreaa"));
    }

    #[test]
    fn what_is_not_exactly_one_cid_is_refused() {
        let good = bytes_of(TEXT);
        let mut longer = good.clone();
        longer.push(0);
        for bytes in [&[][..], &[0], &[1, 0x71], good.get(..35).unwrap(), &longer] {
            assert_eq!(to_text(bytes), Err(InvalidCid), "{bytes:x?}");
        }
    }

    #[test]
    fn block_cids_are_raw_or_dag_cbor_with_sha256() {
        let good = bytes_of(TEXT);
        assert!(block_digest(&good).is_some());
        for (at, value) in [(0, 0), (1, 0x70), (2, 0x11), (3, 0x1f)] {
            let mut bad = good.clone();
            *bad.get_mut(at).unwrap() = value;
            assert!(block_digest(&bad).is_none());
        }
        assert!(block_digest(good.get(..35).unwrap()).is_none());
    }
}
