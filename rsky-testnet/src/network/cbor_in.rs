//! Reading back what [`Cbor`] has written, and nothing else.

use cid::Cid;

use super::cbor_out::Cbor;

/// The value of a block.
///
/// # Panics
/// It was not written by [`Cbor::encode`].
pub fn decode(block: &[u8]) -> Cbor {
    let mut rest = block;
    let value = item(&mut rest);
    assert!(rest.is_empty(), "bytes after the value");
    value
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

fn text(rest: &mut &[u8], length: usize) -> String {
    std::str::from_utf8(take(rest, length)).expect("text").to_owned()
}

fn item(rest: &mut &[u8]) -> Cbor {
    let first = take(rest, 1)[0];
    let argument = match first & 31 {
        small @ 0..=23 => u64::from(small),
        wide => take(rest, 1 << (wide - 24)).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let count = argument as usize;
    match first >> 5 {
        0 => Cbor::Int(argument as i64),
        1 => Cbor::Int(-1 - argument as i64),
        2 => Cbor::Bytes(take(rest, count).to_vec()),
        3 => Cbor::Text(text(rest, count)),
        4 => Cbor::List((0..count).map(|_| item(rest)).collect()),
        5 => Cbor::Map(
            (0..count)
                .map(|_| {
                    let Cbor::Text(key) = item(rest) else { panic!("a key that is no text") };
                    (key, item(rest))
                })
                .collect(),
        ),
        6 => {
            let Cbor::Bytes(bytes) = item(rest) else { panic!("a link without bytes") };
            Cbor::Link(Cid::try_from(&bytes[1..]).expect("a CID"))
        }
        _ => match first {
            0xf4 => Cbor::Bool(false),
            0xf5 => Cbor::Bool(true),
            0xfb => Cbor::Float(f64::from_bits(argument)),
            _ => Cbor::Null,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::cbor_out::cid_of;
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let value = Cbor::map([
            ("a", Cbor::List(vec![Cbor::Int(-70_000), Cbor::Int(300), Cbor::Float(1.5), Cbor::Null])),
            ("b", Cbor::Bytes(vec![0; 300])),
            ("c", Cbor::map([("link", Cbor::Link(cid_of(b"x"))), ("flag", Cbor::Bool(true))])),
        ]);
        assert_eq!(decode(&value.encode()).encode(), value.encode());
    }
}
