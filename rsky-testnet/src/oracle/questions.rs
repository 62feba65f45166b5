//! A second look: what an AppView asks, in plain SQL, beside what follows from the model's rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use serde_json::Value;

use super::tables::Tables;
use crate::servers::Session;

/// Accounts that are asked about.
const ACCOUNTS: usize = 25;
/// Items of a timeline.
const TIMELINE: usize = 50;

/// Asks about some accounts: their timeline, their notifications, whom of their followers others know, the counters of their
/// posts and the threads below them. A line for each answer that is not what the model says, and how many were asked.
///
/// # Errors
/// The database cannot be asked.
pub fn ask(session: &mut Session, expected: &Tables) -> Result<(usize, Vec<String>)> {
    let model = Model::new(expected);
    let (mut asked, mut wrong) = (0, Vec::new());
    let accounts: Vec<&str> = model.accounts.iter().copied().take(ACCOUNTS).collect();
    for (number, did) in accounts.iter().enumerate() {
        let viewer = accounts[(number + 1) % accounts.len()];
        for (question, sql, answer) in [
            ("timeline", timeline(did), model.timeline(did)),
            ("notifications", notifications(did), model.notifications(did)),
            ("known followers", known_followers(viewer, did), model.known_followers(viewer, did)),
            ("counters", counters(did), model.counters(did)),
            ("threads", threads(did), model.threads(did)),
        ] {
            asked += 1;
            let rows = session.rows(&sql)?;
            if rows != answer {
                let first = rows.iter().zip(&answer).position(|(held, must)| held != must);
                let at = first.unwrap_or(rows.len().min(answer.len()));
                let (held, must) = (rows.get(at), answer.get(at));
                wrong.push(format!("{question} of {did}: answer {at} is {held:?}, must be {must:?}"));
            }
        }
    }
    Ok((asked, wrong))
}

fn timeline(did: &str) -> String {
    format!(
        r#"SELECT i.uri FROM feed_item i JOIN follow f ON f."subjectDid" = i."originatorDid" WHERE f.creator = '{did}'
        ORDER BY i."sortAt" COLLATE "C" DESC, i.cid COLLATE "C" DESC, i.uri COLLATE "C" LIMIT {TIMELINE}"#
    )
}

fn notifications(did: &str) -> String {
    format!(
        r#"SELECT reason || ' ' || "recordUri" FROM notification WHERE did = '{did}' AND reason <> 'unverified'
        ORDER BY "sortAt" COLLATE "C" DESC, "recordUri" COLLATE "C", reason COLLATE "C""#
    )
}

fn known_followers(viewer: &str, did: &str) -> String {
    format!(
        r#"SELECT f.creator FROM follow f JOIN follow known ON known."subjectDid" = f.creator
        WHERE f."subjectDid" = '{did}' AND known.creator = '{viewer}' ORDER BY f.creator COLLATE "C""#
    )
}

fn counters(did: &str) -> String {
    format!(
        r#"SELECT p.uri || ' ' || coalesce(a."likeCount", 0) || ' ' || coalesce(a."repostCount", 0) || ' '
        || coalesce(a."replyCount", 0) FROM post p LEFT JOIN post_agg a ON a.uri = p.uri
        WHERE p.creator = '{did}' ORDER BY p.uri COLLATE "C""#
    )
}

fn threads(did: &str) -> String {
    format!(
        r#"SELECT root.uri || ' ' || r.uri || ' ' || coalesce(r."invalidReplyRoot", false)::int || ' '
        || coalesce(r."violatesThreadGate", false)::int FROM post root JOIN post r ON r."replyRoot" = root.uri
        WHERE root.creator = '{did}' ORDER BY root.uri COLLATE "C", r.uri COLLATE "C""#
    )
}

/// The model's rows, in the shape that the questions need.
struct Model<'a> {
    tables: &'a Tables,
    accounts: BTreeSet<&'a str>,
    /// Whom each account follows, and who follows it.
    follows: BTreeMap<&'a str, BTreeSet<&'a str>>,
    followers: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Likes, reposts and shown replies of each post, counted row by row.
    counted: HashMap<(&'static str, &'a str), usize>,
}

fn of<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

impl<'a> Model<'a> {
    fn new(tables: &'a Tables) -> Self {
        let mut model = Self {
            tables,
            accounts: BTreeSet::new(),
            follows: BTreeMap::new(),
            followers: BTreeMap::new(),
            counted: HashMap::new(),
        };
        model.accounts = model.rows("actor_sync").map(|row| of(row, "did")).collect();
        for row in &tables["follow"] {
            let (who, whom) = (of(row, "creator"), of(row, "subjectDid"));
            model.follows.entry(who).or_default().insert(whom);
            model.followers.entry(whom).or_default().insert(who);
        }
        for table in ["like", "repost"] {
            for row in &tables[table] {
                *model.counted.entry((table, of(row, "subject"))).or_default() += 1;
            }
        }
        for row in tables["post"].iter().filter(|row| row["violatesThreadGate"] != true) {
            *model.counted.entry(("reply", of(row, "replyParent"))).or_default() += 1;
        }
        model
    }

    fn rows(&self, table: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.tables[table].iter()
    }

    fn timeline(&self, did: &str) -> Vec<String> {
        let follows = self.follows.get(did);
        let followed = |row: &&Value| follows.is_some_and(|all| all.contains(of(row, "originatorDid")));
        let mut items: Vec<&Value> = self.rows("feed_item").filter(followed).collect();
        items.sort_by(|a, b| {
            let newer = of(b, "sortAt").cmp(of(a, "sortAt")).then(of(b, "cid").cmp(of(a, "cid")));
            newer.then(of(a, "uri").cmp(of(b, "uri")))
        });
        items.into_iter().take(TIMELINE).map(|row| of(row, "uri").to_owned()).collect()
    }

    fn notifications(&self, did: &str) -> Vec<String> {
        let own = |row: &&Value| of(row, "did") == did && of(row, "reason") != "unverified";
        let mut notices: Vec<&Value> = self.rows("notification").filter(own).collect();
        notices.sort_by(|a, b| {
            let newer = of(b, "sortAt").cmp(of(a, "sortAt"));
            newer.then((of(a, "recordUri"), of(a, "reason")).cmp(&(of(b, "recordUri"), of(b, "reason"))))
        });
        notices.into_iter().map(|row| format!("{} {}", of(row, "reason"), of(row, "recordUri"))).collect()
    }

    fn known_followers(&self, viewer: &str, did: &str) -> Vec<String> {
        let (Some(known), Some(followers)) = (self.follows.get(viewer), self.followers.get(did)) else {
            return Vec::new();
        };
        followers.intersection(known).map(|did| (*did).to_owned()).collect()
    }

    fn counters(&self, did: &str) -> Vec<String> {
        let posts = self.rows("post").filter(|row| of(row, "creator") == did).map(|row| of(row, "uri"));
        let posts: BTreeSet<&str> = posts.collect();
        let count = |what, uri| self.counted.get(&(what, uri)).copied().unwrap_or(0);
        let line =
            |uri| format!("{uri} {} {} {}", count("like", uri), count("repost", uri), count("reply", uri));
        posts.into_iter().map(line).collect()
    }

    fn threads(&self, did: &str) -> Vec<String> {
        let roots: BTreeSet<&str> =
            self.rows("post").filter(|row| of(row, "creator") == did).map(|row| of(row, "uri")).collect();
        let flag = |row: &Value, column: &str| u8::from(row[column] == true);
        let mut lines = BTreeSet::new();
        for row in self.rows("post").filter(|row| roots.contains(of(row, "replyRoot"))) {
            let flags = (flag(row, "invalidReplyRoot"), flag(row, "violatesThreadGate"));
            lines.insert((of(row, "replyRoot"), of(row, "uri"), flags));
        }
        let line = |(root, uri, (invalid, gated))| format!("{root} {uri} {invalid} {gated}");
        lines.into_iter().map(line).collect()
    }
}
