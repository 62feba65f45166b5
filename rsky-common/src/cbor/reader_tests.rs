use super::*;

fn strict(bytes: &[u8]) -> Result<Item<'_>, CborError> {
    Reader::new(bytes, Mode::Strict).item()
}

fn skip_all(bytes: &[u8], mode: Mode) -> Result<(), CborError> {
    let mut reader = Reader::new(bytes, mode);
    reader.skip()?;
    reader.finish()
}

#[test]
fn heads_of_every_width() {
    assert_eq!(strict(&[0x17]), Ok(Item::Uint(23)));
    assert_eq!(strict(&[0x18, 24]), Ok(Item::Uint(24)));
    assert_eq!(strict(&[0x19, 1, 0]), Ok(Item::Uint(256)));
    assert_eq!(strict(&[0x1a, 0, 1, 0, 0]), Ok(Item::Uint(65_536)));
    assert_eq!(strict(&[0x3b, 255, 255, 255, 255, 255, 255, 255, 255]), Ok(Item::Negint(u64::MAX)));
    assert_eq!(strict(&[0x62, b'h', b'i']), Ok(Item::Text(b"hi")));
    assert_eq!(strict(&[0xf9, 0x3e, 0]), Ok(Item::Float(1.5)));
    assert_eq!(strict(&[0xf9, 0, 1]), Ok(Item::Float(5.960_464_477_539_063e-8)));
}

#[test]
fn strict_refuses_what_lenient_takes() {
    let cases: [(&[u8], CborError); 6] = [
        (&[0x18, 23], CborError::NonMinimal),
        (&[0x59, 0, 1, 7], CborError::NonMinimal),
        (&[0x9f, 0xff], CborError::Indefinite),
        (&[0x7f, 0x61, b'a', 0xff], CborError::Indefinite),
        (&[0xf9, 0x7e, 0], CborError::NotFinite),
        (&[0xe0], CborError::Simple),
    ];
    for (bytes, error) in cases {
        assert_eq!(skip_all(bytes, Mode::Strict), Err(error), "{bytes:x?}");
        assert_eq!(skip_all(bytes, Mode::Lenient), Ok(()), "{bytes:x?}");
    }
}

#[test]
fn truncated_and_reserved_input_is_refused() {
    for bytes in [&[][..], &[0x18], &[0x62, b'a'], &[0x82, 1], &[0xa1, 0x61, b'a'], &[0xd8, 42], &[0x9f, 1]] {
        assert_eq!(skip_all(bytes, Mode::Lenient), Err(CborError::Truncated), "{bytes:x?}");
    }
    assert_eq!(skip_all(&[0x1c], Mode::Lenient), Err(CborError::Reserved(0x1c)));
    assert_eq!(skip_all(&[0xff], Mode::Lenient), Err(CborError::StrayBreak));
    assert_eq!(skip_all(&[0x82, 1, 0xff], Mode::Lenient), Err(CborError::StrayBreak));
    assert_eq!(skip_all(&[0, 0], Mode::Lenient), Err(CborError::TrailingBytes));
    assert_eq!(
        skip_all(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255], Mode::Lenient),
        Err(CborError::Truncated)
    );
}

#[test]
fn depth_is_bounded_exactly() {
    let nested = |levels: usize| {
        let mut bytes = vec![0x81; levels];
        bytes.push(0);
        bytes
    };
    assert_eq!(skip_all(&nested(MAX_DEPTH), Mode::Strict), Ok(()));
    assert_eq!(skip_all(&nested(MAX_DEPTH + 1), Mode::Strict), Err(CborError::TooDeep));
    assert_eq!(skip_all(&nested(1_000_000), Mode::Strict), Err(CborError::TooDeep));
}

#[test]
fn empty_containers_complete_their_parents() {
    assert_eq!(skip_all(&[0x83, 0x80, 0xa0, 0x81, 0x40], Mode::Strict), Ok(()));
    assert_eq!(skip_all(&[0x9f, 0x80, 0xbf, 0xff, 0xff], Mode::Lenient), Ok(()));
}
