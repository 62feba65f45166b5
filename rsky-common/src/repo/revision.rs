//! Revisions of repositories: TIDs, whose order as text is their order in time.

use std::time::{SystemTime, UNIX_EPOCH};

/// The alphabet, in order.
const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// A revision as a number of the same order; `None` if it is not thirteen characters of the alphabet, or too large.
pub fn revision_number(rev: &str) -> Option<u64> {
    if rev.len() != 13 {
        return None;
    }
    rev.bytes().try_fold(0_u64, |sum, byte| {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
        sum.checked_mul(32)?.checked_add(u64::try_from(digit).ok()?)
    })
}

/// A revision for a commit that has none (PIPELINE 6.5): the time now, in the form of the others.
pub fn revision_of_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut rest = u64::try_from(now.as_micros()).unwrap_or(0) << 10;
    let mut letters = [b'2'; 13];
    for letter in letters.iter_mut().rev() {
        let digit = usize::try_from(rest % 32).unwrap_or(0);
        *letter = ALPHABET.get(digit).copied().unwrap_or(b'2');
        rest /= 32;
    }
    String::from_utf8_lossy(&letters).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_revisions_have_the_form_and_the_order_of_the_others() {
        let first = revision_of_now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = revision_of_now();
        assert!(first < second && revision_number(&first) < revision_number(&second), "{first} {second}");
        assert!(*"3migo7fijwi2k" < *first && *second < *"4222222222222", "{first}");
    }

    #[test]
    fn numbers_have_the_order_of_the_texts() {
        assert!(revision_number("3jzfcijpj2z2a") < revision_number("3jzfcijpj2z2b"));
        for none in ["", "bad", "3jzfcijpj2z2", "3jzfcijpj2z21", "zzzzzzzzzzzzz"] {
            assert_eq!(revision_number(none), None, "{none}");
        }
    }
}
