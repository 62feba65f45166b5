//! Writing CAR v1 files: what a commit frame carries in `blocks` and getRepo answers with.

use cid::Cid;

use super::cbor_out::Cbor;

/// A CAR v1 file of `blocks` in the given order. Nothing is checked: a test may give a block a wrong CID.
pub fn car<B: AsRef<[u8]>>(roots: &[Cid], blocks: impl IntoIterator<Item = (Cid, B)>) -> Vec<u8> {
    let roots = roots.iter().map(|cid| Cbor::Link(*cid)).collect();
    let header = Cbor::map([("roots", Cbor::List(roots)), ("version", Cbor::Int(1))]).encode();
    let mut out = Vec::with_capacity(4096);
    varint(header.len() as u64, &mut out);
    out.extend_from_slice(&header);
    for (cid, block) in blocks {
        let (cid, block) = (cid.to_bytes(), block.as_ref());
        varint((cid.len() + block.len()) as u64, &mut out);
        out.extend_from_slice(&cid);
        out.extend_from_slice(block);
    }
    out
}

/// Unsigned LEB128.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::super::cbor_out::cid_of;
    use super::*;

    #[test]
    fn a_car_has_the_layout_of_the_specification() {
        let block = b"\xa0".to_vec();
        let cid = cid_of(&block);
        let bytes = car(&[cid], [(cid, &block)]);
        assert_eq!(bytes[0], 58, "a header with one root has 58 bytes");
        assert_eq!(&bytes[1..8], b"\xa2\x65roots");
        assert_eq!(bytes[59], 37);
        assert_eq!(&bytes[60..96], cid.to_bytes());
        assert_eq!(&bytes[96..], block);
    }

    #[test]
    fn long_sections_have_a_long_length() {
        let mut out = Vec::new();
        varint(300, &mut out);
        assert_eq!(out, [0xac, 0x02]);
    }
}
