use super::error::CborError;

/// Containers inside each other; deeper input is refused, so neither recursion nor memory depends on the sender.
/// Records of the network nest about ten levels; JSON readers downstream stop at 128.
pub const MAX_DEPTH: usize = 64;

/// The CBOR tag of a CID.
pub const CID_TAG: u64 = 42;

/// How much of CBOR is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Record blocks: shortest integers and lengths, definite lengths, finite floats (PIPELINE 4.3).
    Strict,
    /// Frames, which the reference reads with a general CBOR library (PIPELINE 4.2).
    Lenient,
}

/// One head with its immediate content. The members of containers and the value under a tag follow as own items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// 0 to 2^64 - 1.
    Uint(u64),
    /// The value is -1 minus this.
    Negint(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text string; not checked to be UTF-8.
    Text(&'a [u8]),
    /// An array of so many values; `None` if it ends with a break.
    Array(Option<u64>),
    /// A map of so many pairs; `None` if it ends with a break.
    Map(Option<u64>),
    /// A tag; its value is the next item.
    Tag(u64),
    /// true or false.
    Bool(bool),
    /// null.
    Null,
    /// undefined.
    Undefined,
    /// A float of any width.
    Float(f64),
    /// Another simple value (lenient mode only).
    Simple(u8),
    /// A byte or text string in chunks that end with a break (lenient mode only).
    Chunked,
    /// The end of an indefinite length item (lenient mode only).
    Break,
}

/// A pull reader over one slice. Copying it is a cheap bookmark.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    mode: Mode,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8], mode: Mode) -> Self {
        Self { bytes, at: 0, mode }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes from an earlier [`Self::position`] to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// # Errors
    /// [`CborError::TrailingBytes`] if anything is left.
    pub fn finish(&self) -> Result<(), CborError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(CborError::TrailingBytes) }
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next item.
    ///
    /// # Errors
    /// Whatever the mode does not allow; the position is then of no use.
    #[inline]
    pub fn item(&mut self) -> Result<Item<'a>, CborError> {
        let initial = self.byte()?;
        let minor = initial & 0x1f;
        let major = initial >> 5;
        if major == 7 {
            return self.simple_or_float(minor);
        }
        if minor == 31 {
            return self.indefinite(major, initial);
        }
        let argument = self.argument(minor, initial)?;
        Ok(match major {
            0 => Item::Uint(argument),
            1 => Item::Negint(argument),
            2 => Item::Bytes(self.take(argument)?),
            3 => Item::Text(self.take(argument)?),
            4 => Item::Array(Some(argument)),
            5 => Item::Map(Some(argument)),
            _ => Item::Tag(argument),
        })
    }

    /// The next item with tags other than that of a CID passed over (lenient mode: what the tag meant is lost).
    ///
    /// # Errors
    /// As [`Self::item`].
    pub fn item_past_tags(&mut self) -> Result<Item<'a>, CborError> {
        loop {
            match self.item()? {
                Item::Tag(tag) if tag != CID_TAG => {}
                item => return Ok(item),
            }
        }
    }

    /// Passes over one whole value.
    ///
    /// # Errors
    /// As [`Self::item`], and [`CborError::TooDeep`].
    pub fn skip(&mut self) -> Result<(), CborError> {
        let item = self.item()?;
        self.skip_rest_of(item)
    }

    /// Passes over what follows an item that was just read, until its value is complete.
    ///
    /// # Errors
    /// As [`Self::skip`].
    pub fn skip_rest_of(&mut self, item: Item<'a>) -> Result<(), CborError> {
        // What is still due at each level; `None` until a break comes.
        let mut due = [Some(0_u64); MAX_DEPTH];
        let mut depth = 0_usize;
        let mut next = Some(item);
        loop {
            let item = match next.take() {
                Some(item) => item,
                None => self.item()?,
            };
            let opened = match item {
                Item::Array(count) => Some(count),
                Item::Map(None) | Item::Chunked => Some(None),
                Item::Map(Some(pairs)) => Some(Some(pairs.checked_mul(2).ok_or(CborError::Truncated)?)),
                // The value of a tag stands in for the tag itself.
                Item::Tag(_) => continue,
                Item::Break => {
                    let open = depth.checked_sub(1).ok_or(CborError::StrayBreak)?;
                    if due.get(open) != Some(&None) {
                        return Err(CborError::StrayBreak);
                    }
                    depth = open;
                    None
                }
                _ => None,
            };
            if let Some(count) = opened {
                *due.get_mut(depth).ok_or(CborError::TooDeep)? = count;
                depth += 1;
                if count != Some(0) {
                    continue;
                }
                depth -= 1;
            }
            // One value is complete: it may complete the containers around it.
            loop {
                let Some(open) = depth.checked_sub(1) else { return Ok(()) };
                match due.get_mut(open) {
                    Some(Some(left)) => {
                        *left = left.saturating_sub(1);
                        if *left > 0 {
                            break;
                        }
                        depth = open;
                    }
                    _ => break,
                }
            }
        }
    }

    fn argument(&mut self, minor: u8, initial: u8) -> Result<u64, CborError> {
        let (value, least) = match minor {
            0..=23 => return Ok(u64::from(minor)),
            24 => (u64::from(self.byte()?), 24),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array()?), 1 << 32),
            _ => return Err(CborError::Reserved(initial)),
        };
        if value < least && self.mode == Mode::Strict {
            return Err(CborError::NonMinimal);
        }
        Ok(value)
    }

    fn indefinite(&self, major: u8, initial: u8) -> Result<Item<'a>, CborError> {
        match (self.mode, major) {
            (_, 0 | 1 | 6) => Err(CborError::Reserved(initial)),
            (Mode::Strict, _) => Err(CborError::Indefinite),
            (Mode::Lenient, 4) => Ok(Item::Array(None)),
            (Mode::Lenient, 5) => Ok(Item::Map(None)),
            (Mode::Lenient, _) => Ok(Item::Chunked),
        }
    }

    fn simple_or_float(&mut self, minor: u8) -> Result<Item<'a>, CborError> {
        let float = match minor {
            20 => return Ok(Item::Bool(false)),
            21 => return Ok(Item::Bool(true)),
            22 => return Ok(Item::Null),
            23 => return Ok(Item::Undefined),
            25 => half_to_double(u16::from_be_bytes(self.array()?)),
            26 => f64::from(f32::from_be_bytes(self.array()?)),
            27 => f64::from_be_bytes(self.array()?),
            28..=30 => return Err(CborError::Reserved(0xe0 | minor)),
            31 if self.mode == Mode::Lenient => return Ok(Item::Break),
            31 => return Err(CborError::StrayBreak),
            _ if self.mode == Mode::Strict => return Err(CborError::Simple),
            24 => return Ok(Item::Simple(self.byte()?)),
            _ => return Ok(Item::Simple(minor)),
        };
        if !float.is_finite() && self.mode == Mode::Strict {
            return Err(CborError::NotFinite);
        }
        Ok(Item::Float(float))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, CborError> {
        let byte = *self.bytes.get(self.at).ok_or(CborError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let chunk =
            self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(CborError::Truncated)?;
        self.at += N;
        Ok(*chunk)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let end = self.at.checked_add(length).ok_or(CborError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(CborError::Truncated)?;
        self.at = end;
        Ok(taken)
    }
}

fn half_to_double(half: u16) -> f64 {
    let exponent = i32::from((half >> 10) & 0x1f);
    let mantissa = f64::from(half & 0x3ff);
    let magnitude = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
