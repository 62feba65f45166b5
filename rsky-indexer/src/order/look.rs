//! What entries claim beyond what they say: by the version of their record that is stored, or on its way, which they
//! replace or delete; by replies that wait for them; by posts that may have to be told.
//!
//! An entry joins the registry of what is on its way before the database is asked about it. So an earlier version of its
//! record is either in the registry then, or has committed and is seen by the query.
//!
//! Indexes used: the primary keys of `post`, `post_embed_record`, `follow`, `list_item` and `repost`, and `post`'s on
//! `"replyParent"`.

use foldhash::{HashMap, HashSet};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::claims::{Claims, Keys, Touch, may_tell};
use crate::collections::PartsKind;
use crate::engine::refs::{self, ThreadRefs};
use crate::engine::{
    Change, EngineError, MOST_ANCESTORS, Notifications, Statements, Work, begin, end, load_parents,
};

/// What an entry makes others claim that come after it, while it is on its way.
#[derive(Debug, Default)]
pub struct Registry {
    /// By a record's key: the claims that go with the versions on their way, each with the key of the post it answers.
    versions: HashMap<u64, Vec<Version>>,
    /// By the key of a post: how many replies to it are on their way.
    awaited: HashMap<u64, u32>,
    /// By uri of a post on its way: what it answers. Several versions may be on their way.
    parents: HashMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default)]
struct Version(Vec<(u64, Touch)>);

/// What the registry keeps of an entry until it is done.
#[derive(Debug, Default)]
pub struct Registered {
    record: Option<u64>,
    awaits: Option<u64>,
    parent: Option<(String, String)>,
}

/// What a look at the database found for an entry.
#[derive(Debug, Default)]
pub struct Looked(pub Vec<(u64, Touch)>);

impl Registry {
    /// An entry joins: `claims` gets what the versions on their way make it claim.
    pub fn enter(&mut self, keys: &Keys, work: &Work, claims: &mut Claims) -> Registered {
        let Some(change) = work.change.as_ref().filter(|change| leaves_claims(change)) else {
            return Registered::default();
        };
        let record = keys.record(&change.uri);
        let versions = self.versions.entry(record).or_default();
        for version in versions.iter() {
            claims.extend(&version.0);
        }
        versions.push(Version(claims_of_version(keys, change)));
        let mut registered = Registered { record: Some(record), ..Registered::default() };
        if change.collection.parts != PartsKind::Post {
            return registered;
        }
        if self.awaited.contains_key(&record) && change.content().is_some() {
            claims.push(keys.rules(), Touch::Read);
        }
        if let Some(ThreadRefs { parent, .. }) =
            change.content().and_then(|content| ThreadRefs::of(change, content))
        {
            let awaits = keys.record(parent);
            *self.awaited.entry(awaits).or_default() += 1;
            registered.awaits = Some(awaits);
            self.parents.entry(change.uri.clone()).or_default().push(parent.to_owned());
            registered.parent = Some((change.uri.clone(), parent.to_owned()));
        }
        registered
    }

    /// An entry is done with.
    pub fn leave(&mut self, registered: &Registered) {
        if let Some(record) = registered.record
            && let Some(versions) = self.versions.get_mut(&record)
        {
            // The versions of one record are done with in order.
            if versions.len() > 1 {
                versions.remove(0);
            } else {
                self.versions.remove(&record);
            }
        }
        if let Some(awaits) = registered.awaits
            && let Some(count) = self.awaited.get_mut(&awaits)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.awaited.remove(&awaits);
            }
        }
        if let Some((uri, parent)) = &registered.parent
            && let Some(parents) = self.parents.get_mut(uri)
        {
            if let Some(at) = parents.iter().position(|known| known == parent) {
                parents.swap_remove(at);
            }
            if parents.is_empty() {
                self.parents.remove(uri);
            }
        }
    }

    /// The posts above a reply, as far as they are on their way; the last ones of each branch are to be looked up.
    fn above(&self, change: &Change) -> HashSet<String> {
        let mut found: HashSet<String> = HashSet::default();
        let Some(reply) = change.content().and_then(|content| ThreadRefs::of(change, content)) else {
            return found;
        };
        let mut level = vec![reply.parent.to_owned()];
        for _ in 0..MOST_ANCESTORS {
            level.retain(|uri| found.insert(uri.clone()));
            level = level.iter().filter_map(|uri| self.parents.get(uri)).flatten().cloned().collect();
        }
        found
    }

    /// The question to the database about these entries.
    pub fn question(&self, works: &[Option<&Work>], mode: Notifications) -> Question {
        let mut question = Question::default();
        for (at, work) in works.iter().enumerate() {
            let Some(change) = work.and_then(|work| work.change.as_ref()) else { continue };
            let list = match change.collection.nsid {
                refs::POST => &mut question.posts,
                refs::FOLLOW => &mut question.follows,
                refs::LIST_ITEM => &mut question.list_items,
                refs::REPOST => &mut question.reposts,
                _ => continue,
            };
            list.push((at, change.uri.clone()));
            if change.collection.parts == PartsKind::Post && may_tell(mode, change) {
                let above = self.above(change);
                if !above.is_empty() {
                    question.tellers.push((at, above.into_iter().collect()));
                }
            }
        }
        question
    }
}

/// Whether later versions of a record have to know of this one.
fn leaves_claims(change: &Change) -> bool {
    matches!(change.collection.nsid, refs::POST | refs::FOLLOW | refs::LIST_ITEM | refs::REPOST)
}

fn claims_of_version(keys: &Keys, change: &Change) -> Vec<(u64, Touch)> {
    let Some(content) = change.content() else { return Vec::new() };
    let values = change.duplicate_key();
    match (change.collection.nsid, values.as_deref()) {
        (refs::POST, _) => {
            let root = ThreadRefs::of(change, content).map_or(change.uri.as_str(), |reply| reply.root);
            let shown = content.parts.post().and_then(|parts| parts.record.as_ref());
            let shown = shown.map(|shown| (keys.quoted(&shown.uri), Touch::Own));
            // Another version of a post takes the items of its reposts along.
            let reposted = (keys.reposted(&change.uri), Touch::Own);
            [(keys.thread(root), Touch::Own), reposted].into_iter().chain(shown).collect()
        }
        (refs::FOLLOW, Some([creator, subject])) => vec![(keys.follow(creator, subject), Touch::Own)],
        (refs::LIST_ITEM, Some([_, subject])) => vec![(keys.listed(subject), Touch::Own)],
        (refs::REPOST, Some([_, subject])) => vec![(keys.reposted(subject), Touch::Add)],
        _ => Vec::new(),
    }
}

/// What is asked of the database about some entries.
#[derive(Debug, Default)]
pub struct Question {
    posts: Vec<(usize, String)>,
    follows: Vec<(usize, String)>,
    list_items: Vec<(usize, String)>,
    reposts: Vec<(usize, String)>,
    /// Posts that may tell those above them: the ones that are known.
    tellers: Vec<(usize, Vec<String>)>,
}

const STORED: &str = r#"SELECT 'post', p.uri, coalesce(p."replyRoot", p.uri), e."embedUri" FROM post p
        LEFT JOIN post_embed_record e ON e."postUri" = p.uri WHERE p.uri = ANY($1)
    UNION ALL SELECT DISTINCT 'awaited', c."replyParent", NULL, NULL FROM post c
        WHERE c."replyParent" = ANY($1) AND c."invalidReplyRoot"
    UNION ALL SELECT 'follow', f.uri, f.creator, f."subjectDid" FROM follow f WHERE f.uri = ANY($2)
    UNION ALL SELECT 'list_item', l.uri, l."subjectDid", NULL FROM list_item l WHERE l.uri = ANY($3)
    UNION ALL SELECT 'repost', r.uri, r.subject, NULL FROM repost r WHERE r.uri = ANY($4)"#;

impl Question {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
            && self.follows.is_empty()
            && self.list_items.is_empty()
            && self.reposts.is_empty()
    }

    /// Asks; returns what each of the entries claims by it, by their place.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ask(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        keys: &Keys,
    ) -> Result<Vec<(usize, Looked)>, EngineError> {
        let places: HashMap<&str, Vec<usize>> = {
            let mut places: HashMap<&str, Vec<usize>> = HashMap::default();
            let all = self.posts.iter().chain(&self.follows).chain(&self.list_items).chain(&self.reposts);
            for (at, uri) in all {
                places.entry(uri).or_default().push(*at);
            }
            places
        };
        let mut found: HashMap<usize, Looked> = HashMap::default();
        let tops: HashSet<&str> =
            self.tellers.iter().flat_map(|(_, above)| above).map(String::as_str).collect();
        let tops: Vec<&str> = tops.into_iter().collect();
        begin(connection).await?;
        let read = self.read(connection, statements, &tops).await;
        let (rows, parents) = end(connection, read.map_err(EngineError::from)).await?;
        for row in rows {
            let kind: &str = row.try_get(0)?;
            let uri: &str = row.try_get(1)?;
            let (first, second): (Option<&str>, Option<&str>) = (row.try_get(2)?, row.try_get(3)?);
            let mut claims: Vec<(u64, Touch)> = Vec::new();
            match (kind, first, second) {
                ("post", Some(root), shown) => {
                    claims.push((keys.thread(root), Touch::Own));
                    claims.push((keys.reposted(uri), Touch::Own));
                    claims.extend(shown.map(|shown| (keys.quoted(shown), Touch::Own)));
                }
                ("awaited", _, _) => claims.push((keys.rules(), Touch::Read)),
                ("follow", Some(creator), Some(subject)) => {
                    claims.push((keys.follow(creator, subject), Touch::Own));
                }
                ("list_item", Some(subject), _) => claims.push((keys.listed(subject), Touch::Own)),
                ("repost", Some(subject), _) => claims.push((keys.reposted(subject), Touch::Add)),
                _ => {}
            }
            for at in places.get(uri).into_iter().flatten() {
                found.entry(*at).or_default().0.extend_from_slice(&claims);
            }
        }
        let parents: HashMap<String, Option<String>> = parents.into_iter().collect();
        for (at, above) in &self.tellers {
            let mut told: HashSet<&str> = HashSet::default();
            let mut level: Vec<&str> = above.iter().map(String::as_str).collect();
            for _ in 0..MOST_ANCESTORS {
                level.retain(|uri| told.insert(uri));
                level =
                    level.iter().filter_map(|uri| parents.get(*uri)).flatten().map(String::as_str).collect();
            }
            let looked = found.entry(*at).or_default();
            looked.0.extend(told.into_iter().map(|uri| (keys.record(uri), Touch::Read)));
        }
        Ok(found.into_iter().collect())
    }

    async fn read(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        tops: &[&str],
    ) -> Result<(Vec<PgRow>, Vec<(String, Option<String>)>), sqlx::Error> {
        let uris = |list: &[(usize, String)]| list.iter().map(|(_, uri)| uri.clone()).collect::<Vec<_>>();
        let rows = statements
            .query(STORED)
            .bind(uris(&self.posts))
            .bind(uris(&self.follows))
            .bind(uris(&self.list_items))
            .bind(uris(&self.reposts))
            .fetch_all(&mut *connection)
            .await?;
        Ok((rows, load_parents(connection, statements, tops).await?))
    }
}
