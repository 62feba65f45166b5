//! TIDs: a time and a clock in thirteen characters, whose order as text is their order in time. Revisions of repositories
//! are of this form, and most record keys.

use crate::clock::now_us;

/// The alphabet, in order.
const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// Characters of a TID, of five bits each.
const LENGTH: u32 = 13;

/// A TID as a number of the same order; `None` if it is not thirteen characters of the alphabet, or too large.
pub fn to_number(tid: &str) -> Option<u64> {
    if u32::try_from(tid.len()) != Ok(LENGTH) {
        return None;
    }
    tid.bytes().try_fold(0_u64, |sum, byte| {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
        sum.checked_mul(32)?.checked_add(u64::try_from(digit).ok()?)
    })
}

/// Whether `text` is a TID: thirteen characters of the alphabet, the first with its high bit clear.
pub fn is_tid(text: &str) -> bool {
    to_number(text).is_some()
}

/// The TID that is this number.
pub fn of_number(number: u64) -> String {
    let digit = |place: u32| usize::try_from((number >> (5 * place)) & 31).unwrap_or(0);
    let letters = (0..LENGTH).rev().map(|place| ALPHABET.get(digit(place)).copied().unwrap_or(b'2'));
    letters.map(char::from).collect()
}

/// The TID of a time in microseconds since the Unix epoch and a clock, of which ten bits count.
pub fn of_time(micros: u64, clock: u64) -> String {
    of_number(((micros << 10) | (clock & 1023)) & (u64::MAX >> 1))
}

/// The TID of this moment.
pub fn now() -> String {
    of_time(now_us(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_order_of_the_times() {
        assert_eq!(of_time(0, 0), "2222222222222");
        assert_eq!(of_time(1, 0), "2222222222322", "1024 to the base of 32");
        assert_eq!(of_time(1, 33), "2222222222333", "1057 is 111 to the base of 32");
        assert_eq!(of_time(1, 1024 + 33), of_time(1, 33), "ten bits of clock");
        let times = [1, 2, 1_767_225_600_000_000, 1_767_225_600_000_001];
        let tids: Vec<_> = times.iter().map(|time| of_time(*time, 5)).collect();
        assert!(tids.is_sorted() && tids.iter().all(|tid| is_tid(tid)));
    }

    #[test]
    fn those_of_now_have_the_form_and_the_order_of_the_others() {
        let first = now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = now();
        assert!(first < second && to_number(&first) < to_number(&second), "{first} {second}");
        assert!(*"3migo7fijwi2k" < *first && *second < *"4222222222222", "{first}");
    }

    #[test]
    fn numbers_have_the_order_of_the_texts() {
        assert!(to_number("3jzfcijpj2z2a") < to_number("3jzfcijpj2z2b"));
        for number in [0, 1, 1 << 60, u64::MAX] {
            assert_eq!(to_number(&of_number(number)), Some(number));
        }
        for none in ["", "bad", "3jzfcijpj2z2", "3jzfcijpj2z21", "k222222222222", "zzzzzzzzzzzzz", "ééééééx"]
        {
            assert!(!is_tid(none), "{none}");
        }
        assert!(is_tid("jzzzzzzzzzzzz"));
    }
}
