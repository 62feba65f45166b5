//! What an input may take: at one moment, and over all. The second stands for work: it is counted, where time would be measured.

/// Bytes, by the length of the input: so many, and so many more for each byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Whatever the length.
    pub base: u64,
    /// For each byte.
    pub each: u64,
}

impl Bytes {
    /// Most of them for an input of this length.
    pub fn of(self, length: usize) -> u64 {
        self.base.saturating_add(self.each.saturating_mul(u64::try_from(length).unwrap_or(u64::MAX)))
    }
}

/// What a target may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of memory that are held at a time.
    pub held: Bytes,
    /// Bytes of memory that are taken one after the other.
    pub taken: Bytes,
}

impl Cost {
    /// So many bytes held for each byte of input, and so many taken, beside some that any input may have.
    pub const fn of(held: u64, taken: u64) -> Self {
        Self { held: Bytes { base: 32 << 10, each: held }, taken: Bytes { base: 64 << 10, each: taken } }
    }

    /// So many bytes more, whatever the length.
    pub const fn and(mut self, bytes: usize) -> Self {
        self.held.base = self.held.base.saturating_add(bytes as u64);
        self.taken.base = self.taken.base.saturating_add(2 * bytes as u64);
        self
    }
}
