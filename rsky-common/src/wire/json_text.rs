//! The pieces of JSON text, formatted as `JSON.stringify` formats them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Appends `text` as a JSON string. Only the quote, the backslash and control characters are escaped: U+2028 and
/// everything else stay as they are.
#[inline]
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let Some((plain, special)) = rest.split_at_checked(at) else { break };
        out.push_str(plain);
        let mut after = special.chars();
        if let Some(character) = after.next() {
            push_escape(out, character);
        }
        rest = after.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Bytes that [`push_string`] appends for `text`.
pub fn string_length(text: &str) -> usize {
    let escapes: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | 0x08..=0x0a | 0x0c | 0x0d => 1,
            0..0x20 => 5,
            _ => 0,
        })
        .sum();
    text.len().saturating_add(escapes).saturating_add(2)
}

fn push_escape(out: &mut String, character: char) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        other => {
            let code = u32::from(other);
            out.push_str("\\u00");
            for nibble in [code >> 4, code & 0xf] {
                out.extend(char::from_digit(nibble, 16));
            }
            return;
        }
    };
    out.push_str(short);
}

/// Appends a decimal integer.
pub fn push_integer(out: &mut String, value: i64) {
    // 19 digits and a sign.
    let mut text = [b'0'; 20];
    let mut rest = value.unsigned_abs();
    let mut length = 0;
    for slot in text.iter_mut().rev() {
        // The remainder of a division by ten fits any integer type.
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.extend(text.iter().rev().take(length).rev().copied().map(char::from));
}

/// Appends a float the way JavaScript prints numbers: `1.0` is `1`, `-0` is `0`, what is not finite is `null`.
pub fn push_float(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str("null");
    } else if value == 0.0 {
        out.push('0');
    } else {
        out.push_str(ryu_js::Buffer::new().format_finite(value));
    }
}

/// Appends `{"$bytes":"…"}`, standard alphabet, no padding.
pub fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push_str("{\"$bytes\":\"");
    STANDARD_NO_PAD.encode_string(bytes, out);
    out.push_str("\"}");
}

/// Appends `,"name":` (or `"name":` after an opening brace).
pub(crate) fn push_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
}

/// Appends a member with a string value. `name` needs no escaping.
pub(crate) fn push_text_member(out: &mut String, name: &str, value: &str) {
    push_name(out, name);
    push_string(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> String {
        let mut out = String::new();
        push_string(&mut out, text);
        out
    }

    #[test]
    fn strings_are_escaped_as_json_stringify_does() {
        assert_eq!(string("plain"), r#""plain""#);
        assert_eq!(string("a\"b\\c/"), r#""a\"b\\c/""#);
        assert_eq!(
            string("\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}"),
            "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\u{7f}\""
        );
        assert_eq!(string("é\u{2028}\u{2029}🦀"), "\"é\u{2028}\u{2029}🦀\"");
    }

    #[test]
    fn lengths_are_known_before() {
        for character in (0..=0x80_u8).map(char::from).chain(['é', '🦀']) {
            let text = format!("a{character}b{character}");
            assert_eq!(string_length(&text), string(&text).len(), "{character:?}");
        }
    }

    #[test]
    fn integers_of_every_size() {
        for value in [0, 7, -7, 10, 1_000_000_007, i64::MAX, i64::MIN] {
            let mut out = String::new();
            push_integer(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }

    #[test]
    fn floats_print_as_in_javascript() {
        let cases = [
            (1.0, "1"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e-7, "1e-7"),
            (0.000_001, "0.000001"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
        ];
        for (value, expected) in cases {
            let mut out = String::new();
            push_float(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn bytes_are_base64_without_padding() {
        let mut out = String::new();
        push_bytes(&mut out, &[0xfb, 0xff]);
        assert_eq!(out, r#"{"$bytes":"+/8"}"#);
    }
}
