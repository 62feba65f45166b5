//! What becomes of a record of each collection, apart from posts (INDEXING 4).

use serde_json::{Value, json};

use super::value::{blob, host, inner, items, json as stored_json, member, normalised, parts, text};
use crate::network::cbor_out::Cbor;

/// A row that a record becomes.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) table: &'static str,
    /// `createdAt` as it is stored.
    pub(super) created: String,
    /// Columns apart from uri, cid, creator, createdAt and indexedAt.
    pub(super) columns: Vec<(&'static str, Value)>,
    /// What no two rows of the table may have in common.
    pub(super) key: Option<String>,
    /// The subject: a uri or a DID.
    pub(super) subject: String,
}

/// What a rule says of a record.
pub(super) enum Verdict {
    /// No rule: nothing is stored.
    Unknown,
    /// Nothing is stored, and the commit does not count.
    Refused,
    /// The record is stored, without a row of its own.
    RecordOnly,
    /// A post.
    Post,
    /// A row.
    Row(Typed),
}

fn optional(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

/// The verdict on a record of the account `did`.
pub(super) fn verdict(did: &str, path: &str, record: &Cbor) -> Verdict {
    let (collection, rkey) = path.split_once('/').unwrap_or((path, ""));
    if !valid(collection, record) {
        return Verdict::Refused;
    }
    let own = |name: &str| text(record, &[name]);
    let described = || {
        let facets =
            member(record, "descriptionFacets").map_or(Value::Null, |facets| stored_json(facets).into());
        vec![
            ("description", optional(own("description"))),
            ("descriptionFacets", facets),
            ("avatarCid", blob(member(record, "avatar")).map_or(Value::Null, Value::from)),
        ]
    };
    let created = normalised(own("createdAt").unwrap_or_default());
    let subject = own("subject").unwrap_or_default().to_owned();
    let row = |table, columns, key: Option<String>, subject: String| {
        Verdict::Row(Typed { table, created: created.clone(), columns, key, subject })
    };
    match collection {
        "app.bsky.feed.post" => Verdict::Post,
        "app.bsky.feed.like" | "app.bsky.feed.repost" => {
            let table = if collection.ends_with("like") { "like" } else { "repost" };
            let of = |names: &[&str]| optional(text(record, names));
            let subject = text(record, &["subject", "uri"]).unwrap_or_default().to_owned();
            let columns = vec![
                ("subject", subject.clone().into()),
                ("subjectCid", of(&["subject", "cid"])),
                ("via", of(&["via", "uri"])),
                ("viaCid", of(&["via", "cid"])),
            ];
            let key = format!("{did} {subject}");
            row(table, columns, Some(key), subject)
        }
        "app.bsky.graph.follow" | "app.bsky.graph.block" => {
            let table = if collection.ends_with("follow") { "follow" } else { "actor_block" };
            let columns = vec![("subjectDid", subject.clone().into())];
            row(table, columns, Some(format!("{did} {subject}")), subject)
        }
        "app.bsky.actor.profile" if rkey == "self" => {
            let image = |name| blob(member(record, name)).map_or(Value::Null, Value::from);
            let pack = text(record, &["joinedViaStarterPack", "uri"]);
            let columns = vec![
                ("displayName", optional(own("displayName"))),
                ("description", optional(own("description"))),
                ("avatarCid", image("avatar")),
                ("bannerCid", image("banner")),
                ("joinedViaStarterPackUri", optional(pack)),
                ("pinnedPost", Value::Null),
                ("pinnedPostCid", Value::Null),
            ];
            // The only time that is stored as it was written.
            let created = own("createdAt").unwrap_or_default().to_owned();
            let subject = pack.unwrap_or_default().to_owned();
            Verdict::Row(Typed { table: "profile", created, columns, key: None, subject })
        }
        "app.bsky.graph.list" => {
            let mut columns = described();
            columns.extend([("name", optional(own("name"))), ("purpose", optional(own("purpose")))]);
            row("list", columns, None, String::new())
        }
        "app.bsky.graph.listitem" => {
            let list = own("list").unwrap_or_default();
            if host(list) != did {
                return Verdict::Refused;
            }
            let columns = vec![("subjectDid", subject.clone().into()), ("listUri", list.into())];
            row("list_item", columns, Some(format!("{list} {subject}")), subject)
        }
        "app.bsky.graph.listblock" => {
            let columns = vec![("subjectUri", subject.clone().into())];
            row("list_block", columns, Some(format!("{did} {subject}")), subject)
        }
        "app.bsky.feed.generator" => {
            let mut columns = described();
            columns
                .extend([("feedDid", optional(own("did"))), ("displayName", optional(own("displayName")))]);
            row("feed_generator", columns, None, String::new())
        }
        "app.bsky.graph.starterpack" => {
            row("starter_pack", vec![("name", optional(own("name")))], None, String::new())
        }
        "app.bsky.feed.threadgate" | "app.bsky.feed.postgate" => {
            let post = own("post").unwrap_or_default();
            let (owner, _, key) = parts(post);
            if owner != did || key != rkey {
                return Verdict::Refused;
            }
            let table = if collection.ends_with("threadgate") { "thread_gate" } else { "post_gate" };
            row(table, vec![("postUri", post.into())], Some(post.to_owned()), post.to_owned())
        }
        "app.bsky.graph.verification" => {
            let columns = vec![
                ("rkey", rkey.into()),
                ("subject", subject.clone().into()),
                ("handle", optional(own("handle"))),
                ("displayName", optional(own("displayName"))),
            ];
            row("verification", columns, Some(format!("{did} {subject}")), subject)
        }
        "app.bsky.actor.profile" | "app.bsky.actor.status" => Verdict::RecordOnly,
        _ => Verdict::Unknown,
    }
}

/// Of what lexicons ask for, what worlds get wrong: subjects, and the times of all but profiles.
fn valid(collection: &str, record: &Cbor) -> bool {
    match collection {
        "app.bsky.feed.like" | "app.bsky.feed.repost" => text(record, &["subject", "uri"]).is_some(),
        _ => true,
    }
}

/// The row of a table in which everything stands that is in all of them.
pub(super) fn row(uri: &str, cid: &str, creator: &str, indexed: &str, typed: &Typed) -> Value {
    let mut row = json!({
        "uri": uri, "cid": cid, "creator": creator, "createdAt": typed.created, "indexedAt": indexed,
    });
    for (column, value) in &typed.columns {
        row[*column] = value.clone();
    }
    let sorted = typed.created.as_str().min(indexed);
    match typed.table {
        "profile" | "thread_gate" | "post_gate" => {}
        "verification" => row["sortedAt"] = sorted.into(),
        _ => row["sortAt"] = sorted.into(),
    }
    row
}

/// The DIDs that a record mentions, and its facets' links, in order.
pub(super) fn mentions(record: &Cbor) -> Vec<&str> {
    let features = items(record, &["facets"]).iter().flat_map(|facet| items(facet, &["features"]));
    let mentions = features.filter(|one| super::value::kind(one) == "app.bsky.richtext.facet#mention");
    mentions.filter_map(|one| text(one, &["did"])).collect()
}

/// Whether a gate's list of rules is there at all, and the rules.
pub(super) fn allowed(gate: &Cbor) -> Option<&[Cbor]> {
    inner(gate, &["allow"]).map(|_| items(gate, &["allow"]))
}

/// Whether records of a collection are stored at all.
pub(super) fn has_rule(collection: &str) -> bool {
    const RULES: [&str; 15] = [
        "app.bsky.feed.post",
        "app.bsky.feed.like",
        "app.bsky.feed.repost",
        "app.bsky.feed.threadgate",
        "app.bsky.feed.postgate",
        "app.bsky.feed.generator",
        "app.bsky.graph.follow",
        "app.bsky.graph.block",
        "app.bsky.graph.list",
        "app.bsky.graph.listitem",
        "app.bsky.graph.listblock",
        "app.bsky.graph.starterpack",
        "app.bsky.graph.verification",
        "app.bsky.actor.profile",
        "app.bsky.actor.status",
    ];
    RULES.contains(&collection)
}
