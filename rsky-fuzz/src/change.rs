//! Changes of input: the same ones for the same number.

/// Bytes and words that mean something to one of the readers.
const WORDS: &[&[u8]] = &[
    // CBOR: lengths that are not there, tags, floats, simple values.
    &[0x9f],
    &[0xbf],
    &[0xff],
    &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x7a, 0x7f, 0xff, 0xff, 0xff],
    &[0xbb, 0, 0, 0, 1, 0, 0, 0, 0],
    &[0x1b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xd8, 0x2a, 0x58, 0x25, 0],
    &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
    &[0xf9, 0x7c, 0],
    &[0xf7],
    &[0xa0],
    &[0x80],
    b"\x69__proto__",
    // JSON and names.
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{\"\":",
    b"[",
    b"]",
    b"}",
    b"null",
    b"1e999",
    b"-0",
    b"9223372036854775808",
    b"{\"$bytes\":\"\"}",
    b"{\"$link\":\"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq\"}",
    b"\"__proto__\":",
    b"at://",
    b"did:plc:",
    b"+99:99",
    b"-000001-01-01T00:00:00Z",
    "\u{1f469}\u{200d}\u{1f467}".as_bytes(),
    &[0xed, 0xa0, 0x80],
    &[0xc0, 0x80],
];

/// Longest input that is made, in bytes.
pub const LONGEST: usize = 64 << 10;

/// Numbers without a pattern (splitmix64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The same ones for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one; 0 below 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(end).unwrap_or(0)).unwrap_or(0)
    }
}

/// One of these changed in up to eight places.
pub fn changed(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let one = |numbers: &mut Numbers| seeds.get(numbers.below(seeds.len())).cloned().unwrap_or_default();
    let mut input = one(numbers);
    for _ in 0..=numbers.below(8) {
        change(&mut input, &one, numbers);
        input.truncate(LONGEST);
    }
    input
}

fn change(input: &mut Vec<u8>, another: &impl Fn(&mut Numbers) -> Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(input.len() + 1);
    let length = match numbers.below(4) {
        0 => numbers.below(input.len() - at + 1),
        _ => numbers.below(9).min(input.len() - at),
    };
    let word = || WORDS.iter().copied();
    match numbers.below(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = u8::try_from(numbers.below(256)).unwrap_or(0);
            }
        }
        2 => drop(input.drain(at..at + length)),
        3 => {
            let copy: Vec<u8> = input.get(at..at + length).unwrap_or_default().to_vec();
            let to = numbers.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        4 => {
            let copy: Vec<u8> = input.get(at..at + length.min(64)).unwrap_or_default().to_vec();
            let many = copy.repeat(numbers.below(200));
            input.splice(at..at, many);
        }
        5 | 6 => {
            let nth = numbers.below(WORDS.len());
            let until = at + if numbers.below(2) == 0 { 0 } else { length };
            input.splice(at..until, word().nth(nth).unwrap_or_default().to_vec());
        }
        7 => {
            let other = another(numbers);
            let from = numbers.below(other.len() + 1);
            let until = from + numbers.below(other.len() - from + 1);
            input.splice(at..at, other.get(from..until).unwrap_or_default().to_vec());
        }
        _ => input.truncate(at),
    }
}
