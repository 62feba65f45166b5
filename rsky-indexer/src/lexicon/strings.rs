//! The length of strings, as lexicons count it.

use super::graphemes::count_graphemes;
use super::invalid::Reason;
use super::schema::Text;

/// # Errors
/// The first rule that `text` breaks.
pub(super) fn check_text(rules: &Text, text: &str) -> Result<(), Reason> {
    if let Some(max) = rules.max_bytes.filter(|&max| text.len() > max) {
        return Err(Reason::TooLong(max));
    }
    if text.len() < rules.min_bytes {
        return Err(Reason::TooShort(rules.min_bytes));
    }
    if let Some(max) = rules.max_graphemes.filter(|&max| has_more_graphemes(text, max)) {
        return Err(Reason::TooManyGraphemes(max));
    }
    match rules.format {
        Some(format) if !format.accepts(text) => Err(Reason::Format(format)),
        _ => Ok(()),
    }
}

fn has_more_graphemes(text: &str, max: usize) -> bool {
    // No string has more graphemes than UTF-16 units, nor more of these than bytes.
    text.len() > max && text.encode_utf16().count() > max && count_graphemes(text) > max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_itself_is_allowed() {
        let family = "👩‍👩‍👧‍👧";
        assert!(!has_more_graphemes(&family.repeat(5), 5));
        assert!(has_more_graphemes(&family.repeat(6), 5));
        assert!(!has_more_graphemes("ééééé", 5));
        assert!(has_more_graphemes("éééééé", 5));
        assert!(!has_more_graphemes("", 0));
    }
}
