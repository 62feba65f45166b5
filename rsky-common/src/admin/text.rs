//! Texts that come from elsewhere, made fit for logs and pages.

/// Most bytes of a reason on the pages or in a log line, when nothing narrower is asked for.
pub const SHOWN: usize = 1000;

/// A text as it may be shown in a log line or on a page: at most `max` bytes of it (a few more where characters are
/// escaped, and the true size where it was cut), without control characters. Peers choose such texts, so a newline or a
/// terminal's escape in one must not look like something of ours.
pub fn shown(text: &str, max: usize) -> String {
    let kept = text.get(..text.floor_char_boundary(max)).unwrap_or_default();
    let mut out = String::with_capacity(kept.len());
    for character in kept.chars() {
        if is_harmless(character) { out.push(character) } else { out.extend(character.escape_default()) }
    }
    if kept.len() < text.len() {
        out.push_str(&format!("… ({} bytes)", text.len()));
    }
    out
}

/// Whether a character stays within its line and does nothing to a terminal or to the order of what is read.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_rest_is_kept() {
        assert_eq!(shown("a\nb\r\u{1b}[31m\u{202e}é", SHOWN), "a\\nb\\r\\u{1b}[31m\\u{202e}é");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(shown("aéé", 2), "a… (5 bytes)");
        assert_eq!(shown("aé", 3), "aé");
        assert!(shown(&"x".repeat(40_000), SHOWN).len() < 1_100);
    }
}
