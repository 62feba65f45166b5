//! The length of a text as its readers see it.

use unicode_segmentation::UnicodeSegmentation;

/// Extended grapheme clusters as the reference counts them: Unicode 15.0, which is what the pinned
/// `unicode-segmentation` knows, but for its way with flags.
///
/// A flag is two regional indicators. Of the marks that follow it the reference joins the first only, and an indicator
/// after a prepended sign (such as U+06DD) stands alone, so that those after it pair up differently.
pub(super) fn count_graphemes(text: &str) -> usize {
    if !text.contains(is_indicator) {
        return text.graphemes(true).count();
    }
    let mut count = 0;
    let mut run = None;
    for cluster in text.graphemes(true) {
        let Some(indicators) = Indicators::of(cluster) else {
            count += 1 + run.take().map_or(0, Indicators::clusters);
            continue;
        };
        match run.as_mut().filter(|run: &&mut Indicators| run.marks == 0 && indicators.prepended == 0) {
            Some(run) => {
                run.indicators += indicators.indicators;
                run.marks = indicators.marks;
            }
            None => count += run.replace(indicators).map_or(0, Indicators::clusters),
        }
    }
    count + run.map_or(0, Indicators::clusters)
}

fn is_indicator(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

/// Regional indicators in a row, with what stands before the first and behind the last.
#[derive(Clone, Copy)]
struct Indicators {
    prepended: usize,
    indicators: usize,
    marks: usize,
}

impl Indicators {
    fn of(cluster: &str) -> Option<Self> {
        let prepended = cluster.chars().position(is_indicator)?;
        let indicators = cluster.chars().filter(|&c| is_indicator(c)).count();
        Some(Indicators { prepended, indicators, marks: cluster.chars().count() - prepended - indicators })
    }

    fn clusters(self) -> usize {
        let alone = usize::from(self.prepended > 0);
        let paired = self.indicators - alone.min(self.indicators);
        let ends_in_pair = paired > 0 && paired.is_multiple_of(2) || paired == 0 && self.prepended == 1;
        alone + paired.div_ceil(2) + usize::from(ends_in_pair && self.marks > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::recordings::golden;

    #[test]
    fn the_recorded_counts() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            text: String,
            graphemes: usize,
            utf8: usize,
            utf16: usize,
        }
        let lines = golden("graphemes");
        for line in &lines {
            let recorded: Recorded = serde_json::from_str(line).unwrap();
            let text = &recorded.text;
            let counts = (count_graphemes(text), text.len(), text.encode_utf16().count());
            assert_eq!(counts, (recorded.graphemes, recorded.utf8, recorded.utf16), "{line}");
        }
        assert_eq!(lines.len(), 1500);
    }

    #[test]
    fn indic_conjuncts_are_two_clusters() {
        assert_eq!(count_graphemes("क्षि"), 2);
        assert_eq!(unicode_segmentation::UNICODE_VERSION, (15, 0, 0));
    }

    #[test]
    fn flags() {
        for (text, count) in [
            ("🇯🇵", 1),
            ("🇯🇵🇩🇪a🇯", 4),
            ("🇯🇵\u{301}", 1),
            ("🇯🇵\u{301}\u{301}\u{301}", 2),
            ("🇯\u{301}\u{301}", 1),
            ("\u{6dd}🇯", 1),
            ("\u{6dd}🇯🇵", 2),
            ("\u{6dd}🇯🇵🇩", 2),
            ("\u{6dd}🇯🇵🇩🇪", 3),
            ("\u{6dd}🇯\u{301}\u{301}", 2),
            ("\u{6dd}\u{6dd}🇯\u{301}\u{301}", 1),
        ] {
            assert_eq!(count_graphemes(text), count, "{text:?}");
        }
    }
}
