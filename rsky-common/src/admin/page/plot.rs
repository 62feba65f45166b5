//! Small plots of the last half hour.

use super::html::Html;
use super::units::{number, rate};
use crate::admin::samples::{EVERY, History};

/// Height of a plot, in its own units; its width is a number of samples.
const HEIGHT: f64 = 44.0;

/// Samples that a plot is wide at least: five minutes.
const NARROW: usize = 60;

/// A plot with its name and what it is now.
pub(super) struct Plot<'h> {
    pub(super) name: &'h str,
    /// Lines over each other on one scale, each with its class and what it is called; not called anything: there is one.
    pub(super) lines: Vec<(&'static str, &'static str, &'h History)>,
}

impl Plot<'_> {
    /// Whether there is anything but zeros.
    pub(super) fn says_something(&self) -> bool {
        self.peak() > 0.0
    }

    fn peak(&self) -> f32 {
        self.lines.iter().filter_map(|(_, _, history)| history.peak()).fold(0.0, f32::max)
    }

    /// How many samples it is wide.
    fn width(&self) -> usize {
        self.lines.iter().map(|(_, _, history)| history.values.len()).fold(NARROW, usize::max)
    }

    pub(super) fn write(&self, html: &mut Html) {
        let width = self.width();
        html.raw("<div class=\"plot\"><div class=\"row\"><span>").text(self.name).raw("</span><b>");
        for (class, called, history) in &self.lines {
            html.raw("<span class=\"").raw(class).raw("\">").text(value(history, history.now()));
            if !called.is_empty() {
                html.raw(" <small>").raw(called).raw("</small>");
            }
            html.raw("</span> ");
        }
        html.raw("</b></div><svg class=\"plot\" viewBox=\"0 0 ").figure(width as f64).raw(" ").figure(HEIGHT);
        html.raw("\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
        let peak = f64::from(self.peak()).max(f64::MIN_POSITIVE);
        for (class, _, history) in &self.lines {
            html.raw("<path class=\"").raw(class).raw("\" d=\"");
            path(html, history, width, peak);
            html.raw("\"/>");
        }
        html.raw("</svg>");
        if let Some((_, _, history)) = self.lines.first() {
            let minutes = (width as u64).saturating_mul(EVERY.as_secs()).div_ceil(60);
            html.raw("<div class=\"row\"><small>").text(format!("{minutes} min")).raw("</small><small>most ");
            html.text(value(history, Some(self.peak()))).raw("</small></div>");
        }
        html.raw("</div>");
    }
}

fn value(history: &History, value: Option<f32>) -> String {
    match (history.is_rate, value) {
        (true, value) => rate(value),
        (false, Some(value)) => number(f64::from(value)),
        (false, None) => "–".to_owned(),
    }
}

/// The newest sample is at the right edge; where nobody knew, the line is broken.
fn path(html: &mut Html, history: &History, width: usize, peak: f64) {
    let first = width.saturating_sub(history.values.len());
    let mut drawing = false;
    for (at, value) in (first..).zip(&history.values) {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        html.raw(if drawing { "L" } else { "M" }).figure(at as f64).raw(" ");
        html.figure((HEIGHT - 2.0) * (1.0 - f64::from(*value) / peak) + 1.0);
        // A sample between two gaps is a dot.
        html.raw(if drawing { "" } else { "h1" });
        drawing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_nobody_knew_and_end_at_the_right() {
        let values = vec![Some(0.0), Some(5.0), None, Some(10.0)];
        let history = History { key: "k".into(), label: "l".into(), is_rate: true, values };
        let mut html = Html::default();
        path(&mut html, &history, 360, 10.0);
        assert_eq!(html.into_string(), "M356.0 43.0h1L357.0 22.0M359.0 1.0h1");
    }
}
