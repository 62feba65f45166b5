//! Finding the type and the seq of a frame without decoding it.

/// What is found at the top of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// `op` of the header: 1 for a message, -1 for an error.
    pub op: Option<i64>,
    /// `t` of the header.
    pub t: Option<String>,
    /// `seq` at the top level of the body.
    pub seq: Option<u64>,
    /// Where the head of the `seq` value begins in the frame, in bytes.
    pub seq_at: Option<usize>,
}

/// Looks at a frame. Whatever cannot be read is `None`: a recording may hold broken frames, and they are served too.
pub fn peek(frame: &[u8]) -> Peek {
    let mut found = Peek::default();
    let mut reader = Reader { bytes: frame, at: 0 };
    // The reader stops at the first thing it does not understand; what was found before that stays.
    let _incomplete = look(&mut reader, &mut found);
    found
}

fn look(reader: &mut Reader<'_>, found: &mut Peek) -> Option<()> {
    for _ in 0..reader.map()? {
        match reader.text()? {
            b"op" => found.op = Some(reader.integer()?),
            b"t" => found.t = Some(String::from_utf8_lossy(reader.text()?).into_owned()),
            _ => reader.skip(0)?,
        }
    }
    for _ in 0..reader.map()? {
        if reader.text()? == b"seq" {
            let at = reader.at;
            found.seq = u64::try_from(reader.integer()?).ok();
            found.seq_at = found.seq.map(|_| at);
        } else {
            reader.skip(0)?;
        }
    }
    Some(())
}

/// Nesting at which a frame counts as unreadable.
const MAX_DEPTH: u32 = 64;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// Major type and argument.
    fn head(&mut self) -> Option<(u8, u64)> {
        let first = *self.take(1)?.first()?;
        let argument = match first & 31 {
            small @ 0..=23 => u64::from(small),
            size @ 24..=27 => {
                self.take(1 << (size - 24))?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
            }
            _ => return None,
        };
        Some((first >> 5, argument))
    }

    fn map(&mut self) -> Option<u64> {
        self.head().filter(|(major, _)| *major == 5).map(|(_, count)| count)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let (_, length) = self.head().filter(|(major, _)| *major == 3)?;
        self.take(length)
    }

    fn integer(&mut self) -> Option<i64> {
        match self.head()? {
            (0, value) => i64::try_from(value).ok(),
            (1, value) => i64::try_from(value).ok().map(|value| -1 - value),
            _ => None,
        }
    }

    fn skip(&mut self, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (major, argument) = self.head()?;
        match major {
            2 | 3 => drop(self.take(argument)?),
            4 => (0..argument).try_for_each(|_| self.skip(depth + 1))?,
            5 => (0..argument).try_for_each(|_| self.skip(depth + 1).and_then(|()| self.skip(depth + 1)))?,
            6 => self.skip(depth + 1)?,
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{commit, error, identity, info};
    use super::*;

    #[test]
    fn seq_and_type_are_found() {
        let frame = identity(300, "did:plc:a", "2026-01-01T00:00:00.000Z", None);
        let found = peek(&frame);
        assert_eq!((found.op, found.t.as_deref(), found.seq), (Some(1), Some("#identity"), Some(300)));
        assert_eq!(frame[found.seq_at.unwrap()..][..3], [0x19, 1, 44]);
        let frame = commit(9, "did:plc:a", "3n2zdjuas5c2m", "2026-01-01T00:00:00.000Z", &[]);
        assert_eq!(peek(&frame).seq, Some(9));
    }

    #[test]
    fn frames_without_seq_have_none() {
        assert_eq!(peek(&info("OutdatedCursor", "x")).seq, None);
        let found = peek(&error("FutureCursor"));
        assert_eq!((found.op, found.t, found.seq), (Some(-1), None, None));
    }

    #[test]
    fn broken_frames_do_not_panic() {
        let frame = identity(1, "did:plc:a", "x", Some("a.test"));
        for cut in 0..frame.len() {
            let _anything = peek(&frame[..cut]);
        }
        assert_eq!(peek(&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255]), Peek::default());
        assert_eq!(peek(&vec![0x81; 100_000]), Peek::default());
    }
}
