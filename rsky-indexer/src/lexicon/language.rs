//! Well-formed language tags by RFC 5646, section 2.1. No registry is consulted, and repetitions are allowed.

/// The tags of the RFC that follow no rule, in exactly this spelling.
const GRANDFATHERED: &[&str] = &[
    "en-GB-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "sgn-BE-FR",
    "sgn-BE-NL",
    "sgn-CH-DE",
    "art-lojban",
    "cel-gaulish",
    "no-bok",
    "no-nyn",
    "zh-guoyu",
    "zh-hakka",
    "zh-min",
    "zh-min-nan",
    "zh-xiang",
];

pub(super) fn is_language(tag: &str) -> bool {
    GRANDFATHERED.contains(&tag) || follows_the_rules(tag)
}

fn follows_the_rules(tag: &str) -> bool {
    let mut subtags = tag.split('-').peekable();
    let primary = subtags.next().unwrap_or_default();
    if primary == "x" {
        return subtags.peek().is_some() && subtags.all(|subtag| is_alphanumeric(subtag, 1, 8));
    }
    if !is_alphabetic(primary, 2, 8) {
        return false;
    }
    if primary.len() <= 3 {
        // Extended languages.
        for _ in 0..3 {
            subtags.next_if(|subtag| is_alphabetic(subtag, 3, 3));
        }
    }
    // Script, then region.
    subtags.next_if(|subtag| is_alphabetic(subtag, 4, 4));
    subtags.next_if(|subtag| is_alphabetic(subtag, 2, 2) || is_numeric(subtag, 3));
    while subtags.next_if(|subtag| is_variant(subtag)).is_some() {}
    while subtags
        .next_if(|subtag| is_alphanumeric(subtag, 1, 1) && !subtag.eq_ignore_ascii_case("x"))
        .is_some()
    {
        // An extension has something after its letter.
        if subtags.next_if(|subtag| is_alphanumeric(subtag, 2, 8)).is_none() {
            return false;
        }
        while subtags.next_if(|subtag| is_alphanumeric(subtag, 2, 8)).is_some() {}
    }
    match subtags.next() {
        None => true,
        // Private use.
        Some(last) => {
            last == "x" && subtags.peek().is_some() && subtags.all(|subtag| is_alphanumeric(subtag, 1, 8))
        }
    }
}

fn is_variant(subtag: &str) -> bool {
    is_alphanumeric(subtag, 5, 8)
        || (is_alphanumeric(subtag, 4, 4) && subtag.starts_with(|c: char| c.is_ascii_digit()))
}

fn is_alphabetic(subtag: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphabetic())
}

fn is_alphanumeric(subtag: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_numeric(subtag: &str, len: usize) -> bool {
    subtag.len() == len && subtag.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed() {
        for tag in [
            "en",
            "EN",
            "ja",
            "pt-BR",
            "zh-Hant-TW",
            "es-419",
            "zh-cmn-Hans-CN",
            "zh-aaa-bbb-ccc",
            "abcd",
            "abcdefgh",
            "sl-rozaj-biske",
            "de-1996",
            "en-a-bbb-x-a-ccc",
            "en-u-attr-co-phonebk",
            "x-whatever",
            "en-x-x",
            "i-klingon",
            "zh-min",
            "zh-min-nan",
            "en-GB-oed",
            "de-1996-1996",
            "en-a-bb-a-bb",
            "en-0-bb",
        ] {
            assert!(is_language(tag), "{tag}");
        }
    }

    #[test]
    fn ill_formed() {
        for tag in [
            "",
            "e",
            "e_n",
            "en-",
            "-en",
            "en--US",
            "abcdefghi",
            "123",
            "x",
            "X-a",
            "x-",
            "en-x",
            "en-x-",
            "en-X-a",
            "en-a",
            "en-a-",
            "en-a-b",
            "en-US-US",
            "zh-aaa-bbb-ccc-ddd",
            "abcd-efg",
            "i-KLINGON",
            "i-foo",
            "x-123456789",
            "é",
            "en us",
            "de-19965678-a",
        ] {
            assert!(!is_language(tag), "{tag}");
        }
    }
}
