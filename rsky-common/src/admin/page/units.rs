//! Figures as people read them.

/// A whole number with its thousands apart; large ones are cut to four digits and a letter.
pub(in crate::admin) fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 9_999_500_000.0 => format!("{:.0} G", figure / 1e9),
        size if size >= 9_999_500.0 => format!("{:.1} M", figure / 1e6),
        _ => grouped(figure.round() as i64),
    }
}

fn grouped(number: i64) -> String {
    let (sign, digits) = (if number < 0 { "-" } else { "" }, number.unsigned_abs().to_string());
    let mut text = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        // A narrow space that does not break.
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// How much a second.
pub(in crate::admin) fn rate(per_second: Option<f32>) -> String {
    match per_second.map(f64::from) {
        None => "–".to_owned(),
        Some(rate) if rate > 0.0 && rate < 0.05 => format!("{:.1}/min", rate * 60.0),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}/s"),
        Some(rate) => format!("{}/s", number(rate)),
    }
}

/// Bytes in the unit that fits.
pub(in crate::admin) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fitting = UNITS.iter().find(|(_, shift)| bytes >> shift > 0);
    fitting.map_or_else(
        || format!("{bytes} B"),
        |(unit, shift)| {
            let value = bytes as f64 / (1_u64 << shift) as f64;
            if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
        },
    )
}

/// A duration, its two largest parts.
pub(in crate::admin) fn duration(seconds: f64) -> String {
    let whole = if seconds.is_finite() && seconds > 0.0 { seconds as u64 } else { 0 };
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 9.95 => format!("{:.1} s", seconds.max(0.0)),
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1..=99, _, _) => format!("{days} d {hours} h"),
        _ => format!("{} d", grouped(i64::try_from(days).unwrap_or(i64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let plain = |text: String| text.replace('\u{202f}', " ");
        for (figure, text) in [
            (0.0, "0"),
            (999.6, "1 000"),
            (1_234_567.0, "1 234 567"),
            (12_345_678.0, "12.3 M"),
            (-1234.0, "-1 234"),
            (5e10, "50 G"),
        ] {
            assert_eq!(plain(number(figure)), text);
        }
        for (value, text) in [
            (None, "–"),
            (Some(0.0), "0/s"),
            (Some(0.02), "1.2/min"),
            (Some(3.04), "3.0/s"),
            (Some(1500.0), "1 500/s"),
        ] {
            assert_eq!(plain(rate(value)), text);
        }
        for (value, text) in [(5, "5 B"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (u64::MAX, "16777216 TiB")]
        {
            assert_eq!(bytes(value), text);
        }
        for (seconds, text) in [
            (-1.0, "0.0 s"),
            (f64::NAN, "0 s"),
            (0.25, "0.2 s"),
            (59.0, "59 s"),
            (200.0, "3 min 20 s"),
            (7_300.0, "2 h 1 min"),
            (100_000.0, "1 d 3 h"),
            (1e10, "115 740 d"),
        ] {
            assert_eq!(plain(duration(seconds)), text);
        }
    }
}
