//! The tables of the page.

use serde_json::Value;

use super::html::Html;
use super::units::{bytes, duration, number};
use crate::admin::seen::{StreamFacts, Told};
use crate::admin::view::View;
use crate::redis::Shut;

pub(super) fn streams(html: &mut Html, view: &View) {
    html.raw("<section><h2>Streams</h2>");
    match &view.seen {
        None => drop(html.raw("<p>Redis has not been looked at yet.</p>")),
        Some(Err(why)) => {
            html.raw("<p class=\"bad\">Redis cannot be looked at: ").text(why).raw("</p>");
        }
        Some(Ok(facts)) => {
            html.raw("<table><tr><th>stream, its readers</th><th class=\"n\">entries</th>");
            html.raw("<th class=\"n\">oldest</th></tr>");
            for (name, stream) in &facts.streams {
                self::stream(html, view, name, stream);
            }
            html.raw("</table>");
        }
    }
    gates(html, view);
    html.raw("</section>");
}

fn stream(html: &mut Html, view: &View, name: &str, stream: &StreamFacts) {
    html.element("<tr><td><b>", name, "</b></td><td class=\"n\">");
    told(html, &stream.length, |length| number(*length as f64));
    html.raw("</td><td class=\"n\">");
    told(html, &stream.ends, |_| {
        let seconds = stream.oldest_seconds(view.now_ms).filter(|seconds| *seconds > 0.0);
        seconds.map_or_else(|| "–".to_owned(), duration)
    });
    html.raw("</td></tr>");
    let known = |figure: Option<u64>| figure.map_or_else(|| "–".to_owned(), |figure| number(figure as f64));
    match &stream.groups {
        Err(why) => drop(html.element("<tr><td colspan=\"3\" class=\"sub bad\">", why, "</td></tr>")),
        Ok(groups) if groups.is_empty() => {
            html.raw("<tr><td colspan=\"3\" class=\"sub\"><small>nobody reads it</small></td></tr>");
        }
        Ok(groups) => {
            for group in groups {
                let [consumers, unread, pending] = [group.consumers, group.lag, group.pending].map(known);
                html.raw("<tr><td colspan=\"3\" class=\"sub\"><small>").text(&group.name);
                html.text(format!(" ({consumers}): {unread} unread, {pending} in work"));
                html.raw("</small></td></tr>");
            }
        }
    }
}

fn gates(html: &mut Html, view: &View) {
    if view.board.gates.is_empty() {
        return;
    }
    html.raw("<h3>Gates before them</h3><table>");
    for gate in &view.board.gates {
        html.element("<tr><td>", &gate.stream, "</td>");
        html.raw(match gate.shut {
            None => "<td class=\"n\">open</td></tr>",
            // What fills up as a rule is no alarm.
            Some(Shut::Length { .. }) if view.names.fills_as_a_rule(&gate.stream) => {
                "<td class=\"n\">shut</td></tr>"
            }
            Some(_) => "<td class=\"n bad\">shut</td></tr>",
        });
        if gate.times_shut > 0 {
            html.raw("<tr><td colspan=\"2\"><small>");
            if let (Some(why), Some(since)) = (gate.shut, gate.shut_for_seconds) {
                html.text(format!("for {}: {why}. ", duration(since)));
            }
            let times = match gate.times_shut {
                1 => "once".to_owned(),
                times => format!("{} times", number(times as f64)),
            };
            let in_all = duration(gate.shut_seconds);
            html.text(format!("Shut {times}, {in_all} in all.")).raw("</small></td></tr>");
        }
    }
    html.raw("</table>");
}

fn told<T>(html: &mut Html, told: &Told<T>, show: impl Fn(&T) -> String) {
    match told {
        Ok(value) => html.text(show(value)),
        Err(why) => html.element("<small class=\"bad\">", why, "</small>"),
    };
}

pub(super) fn dead_letters(html: &mut Html, view: &View) {
    let Some(facts) = view.facts() else { return };
    html.raw("<section><h2>Dead letters</h2>");
    let mut none = true;
    for (name, stream) in &facts.streams {
        let dead = match &stream.dead {
            Ok(0) => continue,
            Ok(dead) => *dead,
            Err(why) => {
                html.raw("<p>").text(name).element(": <small class=\"bad\">", why, "</small></p>");
                continue;
            }
        };
        none = false;
        html.raw("<h3>").text(name).raw(": ").text(number(dead as f64)).raw("</h3>");
        match &stream.letters {
            Err(why) => drop(html.element("<p class=\"bad\">", why, "</p>")),
            Ok(letters) => {
                if letters.looked_at < dead {
                    html.raw("<p><small>of the newest ")
                        .text(number(letters.looked_at as f64))
                        .raw(":</small></p>");
                }
                html.raw("<div class=\"wide\"><table>");
                for (reason, count) in &letters.by_reason {
                    html.raw("<tr><td class=\"n\">").text(number(*count as f64)).raw("</td><td><b>");
                    html.text(reason.replace('_', " ")).raw("</b>");
                    if let Some(example) = letters.examples.iter().find(|example| example.reason == *reason) {
                        html.raw("<br><small class=\"break\">")
                            .text(&example.error)
                            .raw(" (")
                            .text(&example.source)
                            .raw(")</small>");
                    }
                    html.raw("</td></tr>");
                }
                html.raw("</table></div>");
            }
        }
    }
    if none {
        html.raw("<p>none</p>");
    } else {
        html.raw(
            "<p><small>Listed, shown, retried and dropped by <code>indexer dead-letters</code> and \
                  <code>backfiller dead-letters</code>.</small></p>",
        );
    }
    html.raw("</section>");
}

pub(super) fn settings(html: &mut Html, view: &View) {
    html.raw("<section><details id=\"settings\"><summary><h2>Settings</h2></summary>");
    if let Some(plan) =
        view.sections.get("memory_plan").and_then(|plan| plan.get("plan")).and_then(Value::as_str)
    {
        html.element("<p><small>", plan, "</small></p>");
    }
    html.raw("<div class=\"wide\"><table>");
    for shown in &view.settings {
        html.raw(if shown.set { "<tr><td><b>" } else { "<tr><td>" }).text(shown.name);
        html.raw(if shown.set { "</b></td>" } else { "</td>" }).raw("<td class=\"break\">");
        html.text(shown.value.as_deref().unwrap_or("–")).raw("</td></tr>");
    }
    html.raw("</table></div><p><small>Those in bold are set; the others have their defaults.</small></p></details></section>");
}

/// What the daemon tells in sections of its own.
pub(super) fn sections(html: &mut Html, view: &View) {
    html.raw("<section><details id=\"more\"><summary><h2>More of this daemon</h2></summary>");
    let of_its_own = |name: &&String| !["redis", "memory_plan", "gates"].contains(&name.as_str());
    for (name, section) in view.sections.iter().filter(|(name, _)| of_its_own(name)) {
        html.element("<h3>", name.replace('_', " "), "</h3><div class=\"wide\">");
        value(html, name, section);
        html.raw("</div>");
    }
    html.raw("</details></section>");
}

fn value(html: &mut Html, name: &str, shown: &Value) {
    match shown {
        Value::Object(fields) => rows(html, fields.iter().map(|(name, value)| (name.clone(), value))),
        Value::Array(items) => {
            rows(html, (1_u64..).map(|number| number.to_string()).zip(items));
        }
        Value::Bool(is) => drop(html.raw(if *is { "yes" } else { "no" })),
        Value::Null => drop(html.raw("–")),
        Value::String(text) => drop(html.text(text)),
        Value::Number(figure) => {
            let text = match (figure.as_u64(), figure.as_f64()) {
                (Some(size), _) if name.ends_with("bytes") => bytes(size),
                (_, Some(seconds)) if name.ends_with("seconds") => duration(seconds),
                (Some(whole), _) => number(whole as f64),
                _ => figure.to_string(),
            };
            html.text(text);
        }
    }
}

fn rows<'v>(html: &mut Html, rows: impl Iterator<Item = (String, &'v Value)>) {
    html.raw("<table>");
    for (name, shown) in rows {
        html.element("<tr><td>", name.replace('_', " "), "</td><td class=\"break\">");
        value(html, &name, shown);
        html.raw("</td></tr>");
    }
    html.raw("</table>");
}
