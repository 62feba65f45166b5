//! Hot subject: one post that everybody likes, to see whether the last likes cost what the first did.

use std::path::Path;

use anyhow::{Result, bail};
use rsky_testnet::servers::Postgres;

use super::Options;
use super::fifths::{Cut, Spent, compared, line};
use super::likes::Subject;
use super::report::process_lines;
use super::rig::Rig;

/// Most likes of a piece: the first and the last piece are compared.
const PIECE: u64 = 10_000;
/// Likes of another post before the first measured piece, which would pay for new connections and for statements that
/// are prepared for the first time.
const WARM_UP: u64 = 10_000;
/// Likes of a third post at the end. What the tables' growth costs, they pay like the last likes of the hot one; what
/// the many likes of one post cost, they do not.
const CONTROL: u64 = 10_000;

pub(super) fn bench(options: &Options, logs: &Path) -> Result<()> {
    println!(
        "\nhot-subject: {} likes of one post, each by another account, after {WARM_UP} of another post that do not \
         count, seed {}, one run",
        options.likes, options.seed
    );
    let mut postgres = Postgres::builder().durable(options.durable).start()?;
    measure(options, &postgres, logs)?;
    postgres.stop_fast()
}

fn measure(options: &Options, postgres: &Postgres, logs: &Path) -> Result<()> {
    let mut rig = Rig::new(postgres)?;
    let before = rig.postgres_usage();
    let mut indexer = rig.start_ready_indexer(logs)?;
    let [other, hot, control] = ["other", "hot", "control"].map(|name| Subject::new(options.seed, name));
    rig.piece(&mut indexer, [other.post(), hot.post(), control.post()])?;
    rig.piece(&mut indexer, (0..WARM_UP).map(|number| other.like(number)))?;

    let mut pieces = Vec::new();
    let mut fifths = Vec::new();
    let mut done = 0;
    for ends in Cut::new(options.likes, PIECE).fifths() {
        let from = pieces.len();
        for end in ends {
            pieces.push(rig.piece(&mut indexer, (done..end).map(|number| hot.like(number)))?);
            done = end;
        }
        let spent = Spent::total(pieces.iter().skip(from));
        fifths.push(spent);
        println!("{}", line(fifths.len(), &spent, "likes", &format!("{done} likes")));
    }
    let controlled = rig.piece(&mut indexer, (0..CONTROL).map(|number| control.like(number)))?;
    let processes = rig.usages(&indexer, before);
    indexer.stop()?;
    let uri = hot.uri();
    let counts = rig.database.sql(&format!(
        "SELECT (SELECT count(*) FROM \"like\" WHERE subject = '{uri}'), \
         (SELECT \"likeCount\" FROM post_agg WHERE uri = '{uri}')"
    ))?;
    if counts != format!("{done}|{done}") {
        bail!("of {done} likes the tables have (rows|counted) {counts}");
    }
    println!("\nhot-subject");
    if let (Some(first), Some(last)) = (pieces.first(), pieces.last()) {
        println!("{}", compared(&first.entries.to_string(), first, last, "likes").join("\n"));
    }
    if let (Some(first), Some(last)) = (fifths.first(), fifths.last()) {
        println!("{}", compared("fifth", first, last, "likes").join("\n"));
    }
    if let Some(last) = pieces.last() {
        println!("{}", beside_control(last, &controlled));
    }
    println!("{}", process_lines(&processes));
    Ok(())
}

/// The last likes of the hot post beside those of a post that had none, in the same tables.
fn beside_control(last: &Spent, control: &Spent) -> String {
    format!(
        "  {:>9.0} likes/s, {} of a post without likes right after\n  {:>9.2} of that has the hot post's last piece, and \
         {:.2} of the CPU time a like",
        control.rate(),
        control.entries,
        last.rate() / control.rate(),
        last.cpu_micros() / control.cpu_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_post_is_held_against_one_without_likes() {
        let spent = |seconds, cpu_seconds| Spent { entries: 10_000, seconds, cpu_seconds };
        let text = beside_control(&spent(0.5, 0.6), &spent(0.4, 0.5));
        assert!(text.contains("25000 likes/s, 10000 of a post without likes"), "{text}");
        assert!(text.contains("0.80 of that") && text.ends_with("1.20 of the CPU time a like"), "{text}");
    }
}
