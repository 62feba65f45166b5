//! TIDs.

const TID_ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// The TID of a time in microseconds since 1970 and a clock id below 1024.
pub(super) fn tid(micros: u64, clock: u64) -> String {
    let value = ((micros << 10) | (clock & 1023)) & (u64::MAX >> 1);
    (0..13).rev().map(|digit| char::from(TID_ALPHABET[(value >> (5 * digit)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tids_sort_by_time() {
        assert_eq!(tid(0, 0), "2222222222222");
        assert_eq!(tid(1, 33), "2222222222333", "1057 is 111 to the base of 32");
        assert_eq!(tid(1, 1024 + 33), tid(1, 33), "ten bits of clock id");
        let times = [1, 2, 1_767_225_600_000_000, 1_767_225_600_000_001];
        let tids: Vec<_> = times.iter().map(|time| tid(*time, 5)).collect();
        assert!(tids.is_sorted() && tids.iter().all(|tid| tid.len() == 13));
    }
}
