//! The pages of the daemons in a real browser: what a person reads on them, and pictures to look at.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rsky_testnet::servers::install::{find_in_path, packages};

use super::{Outcome, am_root, place, run, wait, words};
use crate::daemons::Daemon;
use crate::up::{Options, Pipeline, past_is_over};

/// Time for the network's past to be fetched and indexed.
const FETCHED: Duration = Duration::from_secs(300);
/// Time for a page to say what is so: it is looked at every five seconds.
const SAID: Duration = Duration::from_secs(60);
/// Wide screens and a phone; each light and dark. Pictures are of the whole page.
const SCREENS: [(&str, &str, bool); 4] = [
    ("wide-light", "1280,1500", false),
    ("wide-dark", "1280,1500", true),
    ("phone-light", "390,3200", false),
    ("phone-dark", "390,3200", true),
];

struct Browser {
    program: PathBuf,
    pictures: PathBuf,
}

/// Runs a pipeline on a simulated network, and looks at each page: while all is well, and while Redis is away.
pub(super) fn pages() -> Result<Outcome> {
    if !am_root() && find_in_path("chromium").is_none() {
        return Ok(Outcome::Skipped("chromium is not installed, and that needs root".to_owned()));
    }
    let program = packages(&["chromium", "fonts-dejavu-core"], || find_in_path("chromium"))?;
    let pictures = place()?.join("pages");
    drop(fs::remove_dir_all(&pictures));
    fs::create_dir_all(&pictures)?;
    let browser = Browser { program, pictures };
    let mut pipeline = Pipeline::start(&Options::world())?;
    let saw = look(&browser, &mut pipeline);
    // Redis may have been stopped here, so how the daemons end is not this check's.
    drop(pipeline.stop());
    saw.map(|saw| {
        Outcome::Ran(format!(
            "{}\n         pictures: {}",
            saw.join("\n         "),
            browser.pictures.display()
        ))
    })
}

fn look(browser: &Browser, pipeline: &mut Pipeline) -> Result<Vec<String>> {
    wait("the past is fetched and indexed", FETCHED, || Ok(past_is_over(pipeline)?.then_some(())))?;
    let mut saw = Vec::new();
    for daemon in [&pipeline.ingester, &pipeline.backfiller, &pipeline.indexer] {
        let text = wait("the page shows what Redis says", SAID, || {
            let text = browser.text(daemon)?;
            // It may still say that it begins.
            let well = text.contains("unread") && !text.contains(&format!("{}: not well", daemon.name));
            Ok(well.then_some(text))
        })?;
        for said in
            ["Pipeline", "Last half hour", "Streams", "Dead letters", "Memory", "Settings", "REDIS_URL"]
        {
            ensure!(text.contains(said), "{said:?} is not on the page of the {}: {text}", daemon.name);
        }
        for (screen, size, dark) in SCREENS {
            browser.picture(daemon, &format!("{}-{screen}", daemon.name), size, dark)?;
        }
        let headline =
            text.lines().find(|line| line.contains(&format!("{}: ", daemon.name))).unwrap_or_default();
        saw.push(format!("{}: {}", daemon.name, headline.trim()));
    }
    ensure!(
        browser.refreshes(&pipeline.ingester)?,
        "the page did not fetch itself again: is the script allowed to run?"
    );
    saw.push("the page fetches itself again".to_owned());
    pipeline.end_redis()?;
    for daemon in [&pipeline.ingester, &pipeline.backfiller, &pipeline.indexer] {
        wait("the page says that Redis is away", SAID, || {
            Ok(browser.text(daemon)?.contains(&format!("{}: not well", daemon.name)).then_some(()))
        })?;
        for (screen, size, dark) in SCREENS {
            browser.picture(daemon, &format!("{}-without-redis-{screen}", daemon.name), size, dark)?;
        }
    }
    saw.push("without Redis all three say that they are not well".to_owned());
    Ok(saw)
}

impl Browser {
    /// The page as a person reads it: the text of the document as the browser has built it.
    fn text(&self, daemon: &Daemon) -> Result<String> {
        let document = self.run(daemon, &["--dump-dom"])?;
        Ok(text_of(&document))
    }

    fn picture(&self, daemon: &Daemon, name: &str, size: &str, dark: bool) -> Result<()> {
        let file = self.pictures.join(format!("{name}.png"));
        let scheme = format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 });
        let picture = format!("--screenshot={}", file.display());
        self.run(daemon, &[&scheme, &picture, &format!("--window-size={size}"), "--hide-scrollbars"])?;
        ensure!(fs::metadata(&file).is_ok_and(|made| made.len() > 10_000), "no picture {}", file.display());
        Ok(())
    }

    /// Whether the script of the page has fetched it again, within eleven seconds of the browser's own time.
    fn refreshes(&self, daemon: &Daemon) -> Result<bool> {
        let document = self.run(daemon, &["--virtual-time-budget=11000", "--dump-dom"])?;
        Ok(document.contains("data-refreshed="))
    }

    fn run(&self, daemon: &Daemon, arguments: &[&str]) -> Result<String> {
        let profile = place()?.join("chromium");
        let mut command = words([&self.program]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]);
        command.args(["--disable-dev-shm-usage", "--no-first-run", "--timeout=30000"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.args(arguments).arg(format!("http://127.0.0.1:{}/", daemon.admin));
        run(command).with_context(|| format!("look at the page of the {}", daemon.name))
    }
}

/// What stands between the tags of a document; a line for each piece. What a script or a style holds is not text.
fn text_of(document: &str) -> String {
    let mut text = String::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once('<') {
        if !before.trim().is_empty() {
            text.push_str(before.trim());
            text.push('\n');
        }
        let (tag, after) = after.split_once('>').unwrap_or((after, ""));
        rest = after;
        for silent in ["script", "style"] {
            if tag == silent || tag.starts_with(&format!("{silent} ")) {
                rest = after.split_once(&format!("</{silent}>")).map_or("", |(_, after)| after);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_reads_is_text() {
        let document =
            "<html><style>a{}</style><h1>x: <b>fine</b></h1><script>if (a < b) {}</script><p>end</p></html>";
        assert_eq!(text_of(document), "x:\nfine\nend\n");
    }
}
