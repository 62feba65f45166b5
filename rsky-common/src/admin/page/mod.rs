//! The page for people: whether all is well and what is not, at the top; then the pipeline as a picture, plots, tables.
//!
//! Rendered here, refreshed by a few lines of script that fetch it again. Nothing is loaded from anywhere else.

mod cards;
mod html;
mod picture;
mod plot;
mod tables;
#[cfg(test)]
mod tests;
pub(super) mod units;

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use self::html::Html;
use self::units::duration;
use super::board::Level;
use super::view::View;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What a browser may do with the page: run our script, and fetch the page again.
pub(super) fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let script = STANDARD.encode(Sha256::digest(SCRIPT));
        format!(
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; script-src 'sha256-{script}'"
        )
    })
}

/// Renders everything.
pub(super) fn render(view: &View) -> String {
    let verdict = view.verdict();
    let (class, colour, word) = match verdict.level {
        Level::Fine | Level::Info => ("fine", "%2322863a", "all is well"),
        Level::Look => ("look", "%23c77700", "have a look"),
        Level::Bad => ("bad", "%23d1242f", "not well"),
    };
    let mut html = Html::default();
    html.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    html.text(view.name).raw(": ").raw(word);
    html.raw("</title><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">");
    html.raw("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript><link rel=\"icon\" href=\"data:image/svg+xml,");
    html.raw("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><circle cx='4' cy='4' r='4' fill='")
        .raw(colour);
    html.raw("'/></svg>\"><style>").raw(STYLE).raw("</style></head><body>");
    html.raw("<div id=\"away\" hidden>The daemon does not answer. What is below is old: <b></b></div><main>");
    html.raw("<header class=\"")
        .raw(class)
        .raw("\"><h1><span class=\"dot\"></span>")
        .text(view.name)
        .raw(": ")
        .raw(word);
    html.raw("</h1><p>up ").text(duration(view.uptime_seconds as f64)).raw(" · version ").text(view.version);
    if let Some(lag) = view.worst_lag() {
        html.raw(" · ").text(duration(lag.seconds.unwrap_or(0.0))).raw(" behind");
    }
    html.raw("</p></header>");
    cards::notes(&mut html, &verdict.notes);
    html.raw("<div class=\"cards\">");
    html.raw("<section><h2>Pipeline</h2>");
    picture::write(&mut html, view);
    html.raw("<p class=\"key\"><small>All of it as Redis has it; † are dead letters. How many frames, repositories and rows only \
              the daemon knows that counts them.</small></p></section>");
    cards::plots(&mut html, view);
    cards::lags(&mut html, view);
    cards::backfill(&mut html, view);
    cards::bounds(&mut html, view);
    cards::hosts(&mut html, view);
    tables::streams(&mut html, view);
    tables::dead_letters(&mut html, view);
    tables::settings(&mut html, view);
    tables::sections(&mut html, view);
    html.raw("</div><footer><a href=\"/status\">status as JSON</a> <a href=\"/metrics\">metrics</a> ");
    html.raw("<a href=\"/readyz\">readyz</a> <a href=\"/healthz\">healthz</a></footer></main><script>");
    html.raw(SCRIPT).raw("</script></body></html>");
    html.into_string()
}
