//! What is on the page beside the picture and the tables.

use super::html::Html;
use super::picture::EDGES;
use super::plot::Plot;
use super::units::{bytes, duration, number};
use crate::admin::board::{Level, Note};
use crate::admin::view::View;

pub(super) fn notes(html: &mut Html, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    html.raw("<ul class=\"notes\">");
    for note in notes {
        let class = match note.level {
            Level::Fine | Level::Info => "info",
            Level::Look => "look",
            Level::Bad => "bad",
        };
        html.raw("<li class=\"")
            .raw(class)
            .raw("\"><b>")
            .text(&note.part)
            .raw("</b> ")
            .text(&note.text)
            .raw("</li>");
    }
    html.raw("</ul>");
}

pub(super) fn plots(html: &mut Html, view: &View) {
    html.raw("<section><h2>Last half hour</h2>");
    let own = |key: &str| {
        let history = view.history(key)?;
        Some(Plot { name: &history.label, lines: vec![("a", "", history)] })
    };
    let others = view.histories.iter().map(|history| history.key.as_str());
    let others = others.filter(|key| !key.contains(' ') && !EDGES.contains(key));
    let mut plots: Vec<Plot<'_>> = EDGES.into_iter().chain(others).filter_map(own).collect();
    for stream in view.names.all() {
        let line = |kind: &str| view.history(&format!("{kind} {stream}"));
        if let (Some(into), Some(out)) = (line("in"), line("out")) {
            plots.push(Plot { name: stream, lines: vec![("a", "in", into), ("b", "out", out)] });
        }
    }
    let (moving, quiet): (Vec<_>, Vec<_>) = plots.into_iter().partition(Plot::says_something);
    moving.iter().for_each(|plot| plot.write(html));
    if !quiet.is_empty() {
        let names: Vec<&str> = quiet.iter().map(|plot| plot.name).collect();
        html.raw("<p><small>Nothing moved: ").text(names.join(", ")).raw(".</small></p>");
    }
    html.raw("</section>");
}

pub(super) fn lags(html: &mut Html, view: &View) {
    if view.board.lags.is_empty() {
        return;
    }
    html.raw("<section><h2>Lag</h2><table>");
    for lag in &view.board.lags {
        let seconds = lag.seconds.map_or_else(|| "–".to_owned(), duration);
        html.element("<tr><td>", &lag.of, "</td>").element("<td class=\"n\"><b>", seconds, "</b></td></tr>");
        if let Some(note) = &lag.note {
            html.element("<tr><td colspan=\"2\"><small>", note, "</small></td></tr>");
        }
    }
    html.raw("</table></section>");
}

pub(super) fn backfill(html: &mut Html, view: &View) {
    let Some(backfill) = view.backfill() else { return };
    html.raw("<section><h2>Backfill</h2><p class=\"big\">");
    let left = backfill.queued.saturating_add(backfill.put_off.unwrap_or(0));
    match backfill.seconds_left {
        _ if left == 0 => html.raw("nothing is left"),
        Some(seconds) => html.text(duration(seconds as f64)).raw(" left"),
        None => html.raw("no pace yet"),
    };
    html.raw("</p><table>");
    let known = |figure: Option<u64>| figure.map_or_else(|| "–".to_owned(), |figure| number(figure as f64));
    let pace = backfill.per_second.map_or_else(|| "–".to_owned(), |pace| format!("{pace:.1}/s"));
    for (what, figure) in [
        ("repositories queued or in work", known(Some(backfill.queued))),
        ("put off, to be tried again", known(backfill.put_off)),
        ("done, on average of ten minutes", pace),
        ("backfillers running", known(backfill.backfillers)),
    ] {
        html.raw("<tr><td>").raw(what).raw("</td>").element("<td class=\"n\">", figure, "</td></tr>");
    }
    html.raw("</table><p><small>For what is queued now, at that pace.</small></p></section>");
}

pub(super) fn bounds(html: &mut Html, view: &View) {
    html.raw("<section><h2>Memory</h2>");
    for bound in &view.board.bounds {
        let most = bound.most_bytes.filter(|most| *most > 0);
        html.raw("<div class=\"row\"><span>").text(&bound.of).raw("</span><b>");
        html.text(bound.used_bytes.map_or_else(|| "–".to_owned(), bytes));
        if let Some(most) = most {
            html.raw(" <small>of ").text(bytes(most)).raw("</small>");
        }
        html.raw("</b></div>");
        if let (Some(used), Some(most)) = (bound.used_bytes, most) {
            let part = (used as f64 / most as f64 * 100.0).min(100.0);
            html.raw("<div class=\"bar")
                .raw(if part >= 90.0 { " full" } else { "" })
                .raw("\"><i style=\"width:");
            html.figure(part).raw("%\"></i></div>");
        }
    }
    html.raw("</section>");
}

pub(super) fn hosts(html: &mut Html, view: &View) {
    let Some(hosts) = &view.board.hosts else { return };
    html.raw("<section><h2>Hosts</h2><p>").text(number(hosts.fine as f64)).raw(" fine, ");
    html.text(number(hosts.in_trouble as f64)).raw(" in trouble</p>");
    if !hosts.worst.is_empty() {
        html.raw(
            "<div class=\"wide\"><table><tr><th>host</th><th>state</th><th class=\"n\">waiting</th></tr>",
        );
        for host in &hosts.worst {
            html.element("<tr><td class=\"break\">", &host.host, "</td>").element(
                "<td>",
                &host.state,
                "</td>",
            );
            html.element("<td class=\"n\">", number(host.waiting as f64), "</td></tr>");
            html.element("<tr><td colspan=\"3\"><small class=\"break\">", &host.why, "</small></td></tr>");
        }
        html.raw("</table></div>");
        let more = hosts.in_trouble.saturating_sub(hosts.worst.len() as u64);
        if more > 0 {
            html.raw("<p><small>and ").text(number(more as f64)).raw(" more</small></p>");
        }
    }
    html.raw("</section>");
}
