//! Texts in the order of their bytes, compared mostly by their beginnings.
//!
//! Every process locks rows in one order, so batches sort thousands of uris. They begin alike, stand all over the memory, and
//! a comparison of two of them waits for both.

use std::cmp::Ordering;

/// The first 32 bytes of a text; shorter ones end in zeros. Of two texts whose beginnings differ, the one that is less has
/// the lesser beginning.
type Beginning = [u128; 2];

fn beginning(text: &str) -> Beginning {
    let word = |from: usize| {
        let mut word = [0; 16];
        for (to, byte) in word.iter_mut().zip(text.as_bytes().get(from..).unwrap_or_default()) {
            *to = *byte;
        }
        u128::from_be_bytes(word)
    };
    [word(0), word(16)]
}

/// Sorts items by a text of each.
pub(crate) fn sort_by_text<'t, T>(items: impl Iterator<Item = T>, text: impl Fn(&T) -> &'t str) -> Vec<T> {
    let mut keyed: Vec<(Beginning, T)> = items.map(|item| (beginning(text(&item)), item)).collect();
    keyed.sort_by(|(a, left), (b, right)| match a.cmp(b) {
        Ordering::Equal => text(left).cmp(text(right)),
        different => different,
    });
    keyed.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_bytes(texts in prop::collection::vec("(at://did:plc:)?[a-c\u{0}\u{e9}]{0,30}", 0..40)) {
            let mut expected: Vec<&str> = texts.iter().map(String::as_str).collect();
            expected.sort();
            let sorted = sort_by_text(texts.iter().map(String::as_str), |text| *text);
            prop_assert_eq!(sorted, expected);
        }

        /// Items with the same text keep their order.
        #[test]
        fn equal_ones_stay(texts in prop::collection::vec("[ab]{0,2}", 0..40)) {
            let sorted = sort_by_text(texts.iter().enumerate(), |(_, text)| text.as_str());
            let in_order = sorted.windows(2).all(|pair| pair[0].1 < pair[1].1 || pair[0].0 < pair[1].0);
            prop_assert!(in_order);
        }
    }
}
