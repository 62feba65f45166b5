//! The identifiers of atproto as the reference's validator reads them (VALIDATION 4): the one place that says what is a DID.

/// A space for JavaScript's `\s`, which differs from Unicode's `White_Space` in two characters.
pub fn is_js_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

/// `did:` + method in lower-case letters + at least one more segment; at most 2048 characters.
pub fn is_did(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("did:") else { return false };
    let Some((method, id)) = rest.split_once(':') else { return false };
    text.len() <= 2048
        && !method.is_empty()
        && method.bytes().all(|b| b.is_ascii_lowercase())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:%-".contains(&b))
        && !text.ends_with([':', '%'])
}

/// A domain name of two labels or more, whose last starts with a letter; at most 253 characters.
pub fn is_handle(text: &str) -> bool {
    if text.len() > 253 || !text.contains('.') || !text.split('.').all(is_domain_label) {
        return false;
    }
    text.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Three segments or more; the first starts with a letter, the last is a letter followed by letters and digits;
/// at most 317 characters.
pub fn is_nsid(text: &str) -> bool {
    let Some((domain, name)) = text.rsplit_once('.') else { return false };
    text.len() <= 317
        && domain.contains('.')
        && domain.starts_with(|c: char| c.is_ascii_alphabetic())
        && domain.split('.').all(is_domain_label)
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// `scheme:` + optional `//` + something without spaces that does not start with a slash. The scheme has letters,
/// digits and underscores only.
pub fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let body = rest.strip_prefix("//").unwrap_or(rest);
    !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !body.is_empty()
        && !body.starts_with('/')
        && !body.contains(is_js_space)
}

/// 1 to 63 letters, digits and hyphens, no hyphen at either end.
fn is_domain_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dids() {
        for good in [
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "did:web:exa_mple.com",
            "did:web:localhost%3A2583",
            "did:x::a",
        ] {
            assert!(is_did(good), "{good}");
        }
        let long = format!("did:plc:{}", "a".repeat(2041));
        for bad in [
            "",
            "did:",
            "did:plc",
            "did:plc:",
            "did::a",
            "did:PLC:a",
            "DID:plc:a",
            "did:a:b%",
            "did:a:b/c",
            &long,
        ] {
            assert!(!is_did(bad), "{bad}");
        }
        assert!(is_did(long.get(..2048).unwrap()));
    }

    #[test]
    fn handles() {
        for good in ["a.b", "A.B.COM", "handle.invalid", "1.2.c", "x--y.com", "a.b2-c"] {
            assert!(is_handle(good), "{good}");
        }
        for bad in ["", "a", ".com", "a..com", "a.com.", "-a.com", "a-.com", "a.2b", "a_b.com", "é.com"] {
            assert!(!is_handle(bad), "{bad}");
        }
        let label = "a".repeat(63);
        assert!(is_handle(&format!("{label}.com")));
        assert!(!is_handle(&format!("{label}a.com")));
        let full = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert!(is_handle(&full) && full.len() == 253);
        assert!(!is_handle(&format!("{full}b")));
    }

    #[test]
    fn nsids() {
        for good in ["a.b.c", "com.example.fooBar", "net.users.bob.ping", "a-0.b-1.c", "a.0.c", "a.b.c9"] {
            assert!(is_nsid(good), "{good}");
        }
        for bad in ["", "a.b", "0.b.c", "a.b.9", "a.b.c-d", "a..c", "a.b.", "-a.b.c", "a.b-.c", "a.b.c_d"] {
            assert!(!is_nsid(bad), "{bad}");
        }
    }

    #[test]
    fn uris() {
        for good in ["https://a.b/c", "mailto:x", "a:b", "a_1://x?y#z", "x:é"] {
            assert!(is_uri(good), "{good}");
        }
        for bad in [
            "",
            "a",
            ":a",
            "a:",
            "a://",
            "a:/b",
            "a:///b",
            "a-b:c",
            "git+ssh://x",
            "a: b",
            "a:b c",
            "a:b\u{feff}",
        ] {
            assert!(!is_uri(bad), "{bad}");
        }
        // U+0085 is no space for JavaScript.
        assert!(is_uri("a:b\u{85}"));
    }
}
