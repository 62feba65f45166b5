//! The pipeline as a picture, from the network at the top to Postgres at the bottom. Narrow enough for a phone.

use super::html::Html;
use super::units::{duration, number, rate};
use crate::admin::view::View;

const WIDTH: f64 = 360.0;
/// Width of what stands in a column, and the middles of the three.
const BOX: f64 = 114.0;
const COLUMNS: [f64; 3] = [59.0, 180.0, 301.0];
/// Heights of a box with one line, and of a stream.
const LINE: f64 = 32.0;
const STREAM: f64 = 56.0;
const GAP: f64 = 34.0;

/// Where what stands, from the top.
const INGESTER: f64 = LINE + GAP;
const STREAMS: f64 = INGESTER + LINE + GAP;
const BACKFILLER: f64 = STREAMS + STREAM + GAP;
const BACKFILL: f64 = BACKFILLER + LINE + GAP;
const INDEXER: f64 = BACKFILL + STREAM + GAP;
const POSTGRES: f64 = INDEXER + LINE + GAP;

/// Keys of figures that only the daemon has which counts them.
pub(super) const EDGES: [&str; 5] =
    ["frames_firehose", "frames_labels", "repositories_listed", "repositories_fetched", "rows"];

pub(super) fn write(html: &mut Html, view: &View) {
    Picture { html, view }.write();
}

struct Picture<'p> {
    html: &'p mut Html,
    view: &'p View,
}

impl Picture<'_> {
    fn write(&mut self) {
        let [live, labels, repos] = COLUMNS;
        let names = self.view.names.clone();
        self.html.raw("<svg class=\"picture\" role=\"img\" aria-label=\"the pipeline\" viewBox=\"0 0 ");
        self.html.figure(WIDTH).raw(" ").figure(POSTGRES + LINE).raw("\">");
        for (x, what, key) in [
            (live, "relays", "frames_firehose"),
            (labels, "labelers", "frames_labels"),
            (repos, "listRepos", "repositories_listed"),
        ] {
            self.node("outside", x, 0.0, what);
            self.edge(x, LINE, INGESTER, self.own(key), "");
        }
        self.bar("ingester", INGESTER);
        for (x, stream) in [(live, &names.live), (labels, &names.labels), (repos, &names.repos)] {
            self.edge(x, INGESTER + LINE, STREAMS, Some(self.in_to(stream)), self.gate(stream));
            self.stream(x, STREAMS, stream);
        }
        for (x, stream) in [(live, &names.live), (labels, &names.labels)] {
            self.edge(x, STREAMS + STREAM, INDEXER, Some(self.out_of(stream)), "");
            // Above where the third column has a box.
            self.age(x, STREAMS + STREAM, stream);
        }
        self.edge(repos, STREAMS + STREAM, BACKFILLER, Some(self.out_of(&names.repos)), "");
        self.node(self.class("backfiller"), repos, BACKFILLER, "backfiller");
        let gate = self.gate(&names.backfill);
        self.edge(repos, BACKFILLER + LINE, BACKFILL, Some(self.in_to(&names.backfill)), gate);
        self.stream(repos, BACKFILL, &names.backfill);
        self.edge(repos, BACKFILL + STREAM, INDEXER, Some(self.out_of(&names.backfill)), "");
        self.bar("indexer", INDEXER);
        self.edge(labels, INDEXER + LINE, POSTGRES, self.own("rows").map(|rows| format!("{rows} rows")), "");
        self.node("outside", labels, POSTGRES, "Postgres");
        self.html.raw("</svg>");
    }

    fn class(&self, daemon: &str) -> &'static str {
        if self.view.name == daemon { "own" } else { "other" }
    }

    /// How much a second, if this daemon counts it.
    fn own(&self, key: &str) -> Option<String> {
        self.view.history(key).map(|history| rate(history.now()))
    }

    fn in_to(&self, stream: &str) -> String {
        rate(self.view.rate(&format!("in {stream}")))
    }

    fn out_of(&self, stream: &str) -> String {
        rate(self.view.rate(&format!("out {stream}")))
    }

    /// The class of an edge into a stream.
    fn gate(&self, stream: &str) -> &'static str {
        let shut = |gate: &&crate::redis::gate::GateStatus| gate.stream == stream && gate.shut.is_some();
        if self.view.board.gates.iter().any(|gate| shut(&gate)) { " shut" } else { "" }
    }

    fn rectangle(&mut self, class: &'static str, x: f64, y: f64, width: f64, height: f64) {
        self.html.raw("<rect class=\"").raw(class).raw("\" rx=\"6\" x=\"").figure(x).raw("\" y=\"").figure(y);
        self.html.raw("\" width=\"").figure(width).raw("\" height=\"").figure(height).raw("\"/>");
    }

    fn words(&mut self, class: &'static str, x: f64, y: f64, text: impl AsRef<str>) {
        self.html.raw("<text class=\"").raw(class).raw("\" x=\"").figure(x).raw("\" y=\"").figure(y);
        self.html.raw("\">").text(text).raw("</text>");
    }

    fn node(&mut self, class: &'static str, x: f64, y: f64, name: &str) {
        self.rectangle(class, x - BOX / 2.0, y, BOX, LINE);
        self.words(class, x, y + 21.0, name);
    }

    /// A daemon over the whole width.
    fn bar(&mut self, name: &str, y: f64) {
        let class = self.class(name);
        self.rectangle(class, 2.0, y, WIDTH - 4.0, LINE);
        self.words(class, WIDTH / 2.0, y + 21.0, name);
    }

    fn edge(&mut self, x: f64, from: f64, to: f64, label: Option<String>, shut: &'static str) {
        self.html
            .raw("<path class=\"edge")
            .raw(shut)
            .raw("\" d=\"M")
            .figure(x)
            .raw(" ")
            .figure(from)
            .raw("V");
        self.html.figure(to - 1.0).raw("m-4 -6l4 6l4 -6\"/>");
        let middle = (from + to) / 2.0 + 4.0;
        if let Some(label) = label {
            self.words("rate", x + 7.0, middle, label);
        }
        if !shut.is_empty() {
            self.words("held", x - 7.0, middle, "waits");
        }
    }

    fn stream(&mut self, x: f64, y: f64, stream: &str) {
        let facts = self.view.facts().and_then(|facts| facts.stream(stream));
        let length = facts.and_then(|facts| facts.length.as_ref().ok().copied());
        let dead = facts.and_then(|facts| facts.dead.as_ref().ok().copied()).filter(|dead| *dead > 0);
        let mark = self.view.board.gates.iter().find(|gate| gate.stream == stream).map(|gate| gate.mark);
        let left = x - BOX / 2.0;
        self.rectangle("stream", left, y, BOX, STREAM);
        self.words("name", x, y + 15.0, stream);
        self.words(
            "length",
            x,
            y + 35.0,
            length.map_or_else(|| "–".to_owned(), |length| number(length as f64)),
        );
        if let (Some(length), Some(mark @ 1..)) = (length, mark) {
            let used = (length as f64 / mark as f64).min(1.0);
            let class = if used >= 1.0 { "fill full" } else { "fill" };
            self.rectangle(class, left, y + STREAM - 5.0, BOX * used, 5.0);
        }
        self.html.raw("<text class=\"small\" x=\"").figure(x).raw("\" y=\"").figure(y + 48.0).raw("\">");
        if let Some(mark) = mark {
            self.html.raw("of ").text(number(mark as f64)).raw(" ");
        }
        if let Some(dead) = dead {
            self.html.raw("<tspan class=\"dead\">†").text(number(dead as f64)).raw("</tspan>");
        }
        self.html.raw("</text>");
    }

    /// How old the oldest entry is.
    fn age(&mut self, x: f64, y: f64, stream: &str) {
        let facts = self.view.facts().and_then(|facts| facts.stream(stream));
        let seconds = facts.and_then(|facts| facts.oldest_seconds(self.view.now_ms));
        if let Some(seconds) = seconds.filter(|seconds| *seconds >= 1.0) {
            self.words("age", x + 7.0, y + 20.0, format!("oldest {}", duration(seconds)));
        }
    }
}
