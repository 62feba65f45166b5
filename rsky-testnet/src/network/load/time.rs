//! Times and TIDs.

const TID_ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// The TID of a time in microseconds since 1970 and a clock id below 1024.
pub(super) fn tid(micros: u64, clock: u64) -> String {
    let value = ((micros << 10) | (clock & 1023)) & (u64::MAX >> 1);
    (0..13).rev().map(|digit| char::from(TID_ALPHABET[(value >> (5 * digit)) as usize & 31])).collect()
}

/// `2026-01-01T00:00:00.000Z` for milliseconds since 1970.
pub(super) fn iso(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    // Days to a civil date, counted in eras of 400 years from 0000-03-01.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
        ] {
            assert_eq!(iso(millis), expected);
        }
    }

    #[test]
    fn tids_sort_by_time() {
        assert_eq!(tid(0, 0), "2222222222222");
        assert_eq!(tid(1, 33), "2222222222333", "1057 is 111 to the base of 32");
        assert_eq!(tid(1, 1024 + 33), tid(1, 33), "ten bits of clock id");
        let times = [1, 2, 1_767_225_600_000_000, 1_767_225_600_000_001];
        let tids: Vec<_> = times.iter().map(|time| tid(*time, 5)).collect();
        assert!(tids.is_sorted() && tids.iter().all(|tid| tid.len() == 13));
    }
}
