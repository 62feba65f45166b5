//! Threads whose outcome depends on an order between accounts, and how many came out wrong.

use std::fmt;

use crate::counters;
use crate::entries::{
    FOLLOW, LIKE, POST, POST_GATE, Scribe, THREAD_GATE, about, post, post_gate, quote, reply, signal,
    thread_gate, uri,
};
use crate::process::count;
use crate::support::Db;

/// What happens in a thread, one entry after the other.
#[derive(Clone, Copy)]
enum Kind {
    /// A post, a thread gate that allows nobody, a reply by somebody.
    Closed,
    /// A post, a post gate that forbids quotes, a quote by somebody.
    Unquotable,
    /// A post, a reply by somebody, of which the author is told.
    Open,
}

const KINDS: [Kind; 3] = [Kind::Closed, Kind::Unquotable, Kind::Open];
const STAGES: usize = 3;

/// So many threads of each kind in the order of events, with `distance` entries of others between those of a thread.
pub fn stream(threads: usize, distance: usize) -> Vec<String> {
    let mut scribe = Scribe::live();
    let mut entries = Vec::new();
    let all: Vec<(usize, Kind)> = (0..threads).flat_map(|number| KINDS.map(|kind| (number, kind))).collect();
    for block in all.chunks(distance + 1) {
        for stage in 0..STAGES {
            for place in 0..=distance {
                let entry =
                    block.get(place).and_then(|(number, kind)| entry(&mut scribe, *kind, *number, stage));
                let entry = entry.unwrap_or_else(|| bystander(&mut scribe, entries.len()));
                entries.push(entry);
            }
        }
    }
    entries
}

/// The entry of a thread at a stage, if it has one.
fn entry(scribe: &mut Scribe, kind: Kind, number: usize, stage: usize) -> Option<String> {
    let rkey = match kind {
        Kind::Closed => "closed",
        Kind::Unquotable => "unquotable",
        Kind::Open => "open",
    };
    let (author, other) = (format!("did:plc:author{number}"), format!("did:plc:other{number}"));
    let root = uri(&author, POST, rkey);
    Some(match (stage, kind) {
        (0, _) => scribe.create(&author, POST, rkey, post("root")),
        (1, Kind::Closed) => scribe.create(&author, THREAD_GATE, rkey, thread_gate(&root, &[])),
        (1, Kind::Unquotable) => scribe.create(&author, POST_GATE, rkey, post_gate(&root)),
        (2, Kind::Closed) => scribe.create(&other, POST, "inclosed", reply(&root, &root)),
        (2, Kind::Unquotable) => scribe.create(&other, POST, "ofunquotable", quote(&root)),
        (1, Kind::Open) => scribe.create(&other, POST, "inopen", reply(&root, &root)),
        _ => return None,
    })
}

/// An entry that has nothing to do with the threads.
fn bystander(scribe: &mut Scribe, number: usize) -> String {
    let (did, rkey) = (format!("did:plc:bystander{}", number % 400), format!("r{number}"));
    if number.is_multiple_of(2) {
        let liked = uri(&format!("did:plc:liked{}", number % 70), POST, "p");
        scribe.create(&did, LIKE, &rkey, signal(&liked))
    } else {
        scribe.create(&did, FOLLOW, &rkey, about(&format!("did:plc:followed{number}")))
    }
}

/// What came out otherwise than in stream order.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Replies that a gate forbids and that are shown, or that count as replies to nothing.
    pub gates: i64,
    /// Quotes that a gate forbids and that are shown.
    pub quotes: i64,
    /// Replies of which the author of the post is not told.
    pub untold: i64,
    /// Notifications that must not be.
    pub surplus: i64,
    /// Gates that their posts do not know of.
    pub unmarked: i64,
    /// Counters that a recount changes.
    pub counters: Vec<String>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gates, quotes, untold, surplus, unmarked, counters } = self;
        write!(
            f,
            "wrong gates {gates}, quotes {quotes}; notifications missing {untold}, surplus {surplus}; \
             posts without their mark {unmarked}; wrong counters {counters:?}"
        )
    }
}

impl Wrong {
    /// Looks at what became of so many threads of each kind.
    pub fn of(db: &Db, threads: usize) -> Self {
        let threads = i64::try_from(threads).unwrap();
        let answers = |rkey: &str, right: &str| {
            threads - count(db, &format!("post WHERE uri LIKE '%/{rkey}' AND {right}"))
        };
        let told = count(
            db,
            r#"(SELECT DISTINCT "recordUri" FROM notification n JOIN post p ON p.uri = n."recordUri"
                WHERE n.reason = 'reply' AND n."reasonSubject" = p."replyParent"
                    AND p."replyParent" LIKE 'at://' || n.did || '/%/open') t"#,
        );
        Self {
            gates: answers("inclosed", r#""violatesThreadGate" AND "invalidReplyRoot" IS NOT TRUE"#),
            quotes: answers("ofunquotable", r#""violatesEmbeddingRules""#),
            untold: threads - told,
            surplus: count(db, "notification WHERE reason NOT IN ('like', 'follow')") - told,
            unmarked: answers("closed", r#""hasThreadGate""#) + answers("unquotable", r#""hasPostGate""#),
            counters: counters::wrong(db),
        }
    }

    /// Whether all is as in stream order.
    pub fn none(&self) -> bool {
        let Self { gates, quotes, untold, surplus, unmarked, counters } = self;
        [*gates, *quotes, *untold, *surplus, *unmarked] == [0; 5] && counters.is_empty()
    }
}
