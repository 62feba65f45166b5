//! Byte sizes with units.

/// Parses a number of bytes: plain, or with one of the units `B KiB MiB GiB TiB` (powers of 1024) or
/// `kB MB GB TB` (powers of 1000); case and spaces between do not matter. `None`: not of that form, or beyond `u64`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_plain_bytes_and_units() {
        assert_eq!(parse_size("1024"), Some(1024));
        assert_eq!(parse_size(" 32MiB "), Some(32 << 20));
        assert_eq!(parse_size("4 mb"), Some(4_000_000));
        assert_eq!(parse_size("2k"), Some(2048));
        for bad in ["", "MiB", "-1", "1.5MiB", "1 stone", "99999999999TiB", "é"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
