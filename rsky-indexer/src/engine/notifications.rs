//! `notification`: who is told of what (INDEXING §5, DECISIONS 20).
//!
//! The table has no unique key: that nothing is written twice is owed to the rev guard, which lets a change take effect
//! once. Indexes used: `notification`'s on `"recordUri"`, `post_pkey`, `thread_mute`'s primary key.

use std::borrow::Cow;

use foldhash::{HashMap, HashSet};
use rsky_common::clock::now_iso;
use sqlx::PgConnection;

use super::change::{Action, Change, Content};
use super::load::Known;
use super::posts::earlier::Earlier;
use super::posts::judge::Verdicts;
use super::posts::refs::{self, ThreadRefs};
use super::sql::Statements;
use crate::collections::{
    Flags, JOINED_VIA, Notifies, follow_columns, post_columns, subject_columns, verification_columns,
};
use crate::text::at_uri::AtUri;

/// When creates notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notifications {
    /// As the reference's stream indexer: updates and deletes touch the table, creates never do.
    #[default]
    Reference,
    /// Creates of the live stream notify, too; a backfill never does.
    Live,
    /// The table is left alone.
    Off,
}

/// A step of what is said of the records of a wave. The steps are made as if each change had come alone.
#[derive(Debug)]
pub(super) enum Word<'c> {
    /// Somebody is told.
    Told(Draft<'c>),
    /// What was said before holds no more.
    TakenBack(TakenBack),
}

impl<'c> Word<'c> {
    /// The change that must get its row for it; `None`: it is said in any case.
    pub(super) fn owner(&self) -> Option<&'c Change> {
        match self {
            Self::Told(draft) => draft.owner,
            Self::TakenBack(_) => None,
        }
    }
}

/// What was said of a record for one reason, and holds no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TakenBack {
    pub uri: String,
    pub reason: &'static str,
}

/// A notification that is to be written.
#[derive(Debug)]
pub(super) struct Draft<'c> {
    owner: Option<&'c Change>,
    /// Which of the wave's changes makes it.
    step: usize,
    uri: Cow<'c, str>,
    cid: Cow<'c, str>,
    author: Cow<'c, str>,
    /// Not if the recipient has been told of the record by an earlier step.
    once: bool,
    recipient: String,
    reason: &'static str,
    subject: Option<String>,
    root: Root,
    sort_at: String,
}

/// The thread that a notification's subject belongs to, which its recipient may have muted.
#[derive(Debug)]
enum Root {
    /// Whatever the table of posts says.
    LookUp,
    /// The wave knows better: the root, or that there is no such post yet.
    Known(Option<String>),
}

/// Whether a change's new row tells anybody, as far as that is known before the wave writes.
pub(super) fn may_notify(mode: Notifications, change: &Change, known: &Known<'_>) -> bool {
    if change.collection.notifies == Notifies::Nobody {
        return false;
    }
    match (mode, &change.action) {
        (Notifications::Off, _) | (_, Action::Delete) => false,
        (_, Action::Update(_)) => true,
        (Notifications::Reference, Action::Create(_)) => false,
        // One that replaces another version corrects it, and tells nobody (DECISIONS 12).
        (Notifications::Live, Action::Create(_)) => {
            change.live && known.stored(&change.uri).is_none_or(|stored| stored.cid.is_empty())
        }
    }
}

/// What is said of a wave's writing changes, in batch order.
pub(super) fn words<'c>(
    mode: Notifications,
    wave: &[&'c Change],
    known: &Known<'_>,
    verdicts: &Verdicts<'c>,
) -> Vec<Word<'c>> {
    let mut drafter = Drafter::default();
    let says =
        |change: &Change| may_notify(mode, change, known) || !verdicts.taken_back_by(&change.uri).is_empty();
    if !wave.iter().any(|change| says(change)) {
        return drafter.words;
    }
    drafter.posts_to_come =
        wave.iter().map(|change| change.uri.as_str()).filter(|uri| verdicts.is_judged(uri)).collect();
    for (step, change) in wave.iter().enumerate() {
        let Some(content) = change.content() else { continue };
        drafter.begin(step);
        drafter.words.extend(verdicts.taken_back_by(&change.uri).iter().cloned().map(Word::TakenBack));
        if drafter.posts_to_come.remove(change.uri.as_str()) {
            let root = ThreadRefs::of(change, content).map_or(change.uri.as_str(), |reply| reply.root);
            drafter.roots.insert(&change.uri, root);
        }
        if may_notify(mode, change, known) {
            drafter.add(change, content, verdicts);
        }
        if mode == Notifications::Live && change.live {
            drafter.add_made_sound(change, verdicts);
        }
    }
    drafter.words
}

/// What is said of an earlier reply that has lost its flag: to those above it who have not been told of it.
pub(super) fn words_of_reply<'c>(reply: &Earlier, above: &[String]) -> Vec<Word<'c>> {
    let mut drafter = Drafter::default();
    drafter.add_earlier_reply(None, reply, above);
    drafter.words
}

#[derive(Default)]
struct Drafter<'c> {
    /// Which change it is about, by its place in the wave.
    step: usize,
    /// By post: who is told of it by this change.
    told: HashMap<String, HashSet<String>>,
    posts_to_come: HashSet<&'c str>,
    roots: HashMap<&'c str, &'c str>,
    words: Vec<Word<'c>>,
}

impl<'c> Drafter<'c> {
    /// The next change.
    fn begin(&mut self, step: usize) {
        self.step = step;
        self.told.clear();
    }

    fn add(&mut self, change: &'c Change, content: &'c Content, verdicts: &Verdicts<'c>) {
        let Some(row) = content.row.as_ref() else { return };
        let context = change.context(content);
        let by_row = |column| row.value(column, &context).map(str::to_owned);
        let sort_at = |created_at: usize| -> String {
            let created = row.value(created_at, &context).unwrap_or(&change.time);
            created.min(change.time.as_str()).to_owned()
        };
        match change.collection.notifies {
            Notifies::Nobody => {}
            Notifies::Post => {
                let sort_at = sort_at(post_columns::CREATED_AT);
                self.add_post(change, content, verdicts, &sort_at);
            }
            Notifies::Subject { reason, via } => {
                let Some(subject) = by_row(subject_columns::SUBJECT) else { return };
                let owner = host(&subject);
                if owner.as_deref() == Some(&change.did) {
                    return;
                }
                let sort_at = sort_at(subject_columns::CREATED_AT);
                if let Some(owner) = owner {
                    self.push(change, content, owner, reason, normalized(&subject), &sort_at);
                }
                if let Some(via_uri) = by_row(subject_columns::VIA)
                    && let Some(owner) = host(&via_uri).filter(|owner| *owner != change.did)
                {
                    self.push(change, content, owner, via, normalized(&via_uri), &sort_at);
                }
            }
            Notifies::Follow => {
                if let Some(subject) = by_row(follow_columns::SUBJECT) {
                    let sort_at = sort_at(follow_columns::CREATED_AT);
                    self.push(change, content, subject, "follow", None, &sort_at);
                }
            }
            Notifies::Profile => {
                if let Some(uri) = by_row(JOINED_VIA)
                    && let Some(owner) = host(&uri)
                {
                    let time = change.time.clone();
                    self.push(change, content, owner, "starterpack-joined", Some(uri), &time);
                }
            }
            Notifies::Verification => {
                if let Some(subject) = by_row(verification_columns::SUBJECT) {
                    let sort_at = sort_at(verification_columns::CREATED_AT);
                    self.push(change, content, subject, "verified", None, &sort_at);
                }
            }
        }
    }

    /// INDEXING §5.1: each recipient once, the author never.
    fn add_post(&mut self, change: &'c Change, content: &'c Content, verdicts: &Verdicts<'c>, sort_at: &str) {
        let Some(parts) = content.parts.post() else { return };
        let Flags { violates_thread_gate, violates_embedding_rules, .. } =
            verdicts.flags_at_first(&change.uri);
        let mut told: HashSet<String> = HashSet::from_iter([change.did.clone()]);
        let mut tell = |this: &mut Self, did: String, reason, subject| {
            if told.insert(did.clone()) {
                this.push(change, content, did, reason, subject, sort_at);
            }
        };
        for did in &parts.mentions {
            tell(self, did.clone(), "mention", None);
        }
        if violates_embedding_rules != Some(true)
            && let Some(quoted) = parts.record.as_ref().filter(|record| refs::is_post(&record.uri))
            && let Some(owner) = host(&quoted.uri)
        {
            tell(self, owner, "quote", normalized(&quoted.uri));
        }
        if violates_thread_gate != Some(true) {
            for ancestor in verdicts.told_of(&change.uri) {
                if let Some(owner) = host(ancestor) {
                    tell(self, owner, "reply", Some(ancestor.clone()));
                }
            }
        }
        self.told.insert(change.uri.clone(), told);
    }

    /// What came before a post and was flagged or forbidden without it.
    fn add_made_sound(&mut self, change: &'c Change, verdicts: &Verdicts<'c>) {
        let Some(made_sound) = verdicts.made_sound_by(&change.uri) else { return };
        for (uri, above) in &made_sound.replies {
            if let Some(reply) = verdicts.earlier(uri) {
                self.add_earlier_reply(Some(change), reply, above);
            }
        }
        for uri in &made_sound.quotes {
            if let Some(quote) = verdicts.earlier(uri).filter(|quote| change.did != quote.did) {
                self.push_earlier(Some(change), quote, change.did.clone(), "quote", &change.uri);
            }
        }
    }

    fn add_earlier_reply(&mut self, owner: Option<&'c Change>, reply: &Earlier, above: &[String]) {
        for ancestor in above {
            if let Some(did) = host(ancestor).filter(|did| *did != reply.did) {
                self.push_earlier(owner, reply, did, "reply", ancestor);
            }
        }
    }

    fn push_earlier(
        &mut self,
        owner: Option<&'c Change>,
        post: &Earlier,
        recipient: String,
        reason: &'static str,
        subject: &str,
    ) {
        if !self.told.entry(post.uri.clone()).or_default().insert(recipient.clone()) {
            return;
        }
        let root = self.root_of(Some(subject));
        self.words.push(Word::Told(Draft {
            owner,
            step: self.step,
            uri: post.uri.clone().into(),
            cid: post.cid.clone().into(),
            author: post.did.clone().into(),
            once: true,
            recipient,
            reason,
            subject: Some(subject.to_owned()),
            root,
            sort_at: post.sort_at.clone(),
        }));
    }

    fn push(
        &mut self,
        record: &'c Change,
        content: &'c Content,
        recipient: String,
        reason: &'static str,
        subject: Option<String>,
        sort_at: &str,
    ) {
        let root = self.root_of(subject.as_deref());
        self.words.push(Word::Told(Draft {
            owner: Some(record),
            step: self.step,
            uri: record.uri.as_str().into(),
            cid: content.cid.as_str().into(),
            author: record.did.as_str().into(),
            once: false,
            recipient,
            reason,
            subject,
            root,
            sort_at: sort_at.to_owned(),
        }));
    }

    fn root_of(&self, subject: Option<&str>) -> Root {
        match subject {
            None => Root::Known(None),
            Some(uri) if self.posts_to_come.contains(uri) => Root::Known(None),
            Some(uri) => {
                self.roots.get(uri).map_or(Root::LookUp, |root| Root::Known(Some((*root).to_owned())))
            }
        }
    }
}

/// Says a wave's words, with the outcome of one after the other; returns how many rows were written.
pub(super) async fn say(
    connection: &mut PgConnection,
    statements: &Statements,
    words: &[Word<'_>],
) -> Result<usize, sqlx::Error> {
    let mut rows = 0;
    let mut together = Together::default();
    for word in words {
        if together.stands_against(word) {
            rows += std::mem::take(&mut together).say(connection, statements).await?;
        }
        together.add(word);
    }
    Ok(rows + together.say(connection, statements).await?)
}

/// Words whose order does not matter.
#[derive(Debug, Default)]
struct Together<'w, 'c> {
    told: Vec<&'w Draft<'c>>,
    taken_back: Vec<&'w TakenBack>,
    /// What somebody is told of, by which step.
    steps: HashMap<&'w str, usize>,
    uris_taken_back: HashSet<&'w str>,
}

impl<'w, 'c> Together<'w, 'c> {
    /// Whether a word has to be said after these.
    fn stands_against(&self, word: &Word<'_>) -> bool {
        match word {
            Word::Told(draft) => {
                let told_by_another =
                    self.steps.get(draft.uri.as_ref()).is_some_and(|step| *step != draft.step);
                self.uris_taken_back.contains(draft.uri.as_ref()) || (draft.once && told_by_another)
            }
            Word::TakenBack(word) => self.steps.contains_key(word.uri.as_str()),
        }
    }

    fn add(&mut self, word: &'w Word<'c>) {
        match word {
            Word::Told(draft) => {
                self.steps.insert(draft.uri.as_ref(), draft.step);
                self.told.push(draft);
            }
            Word::TakenBack(word) => {
                self.uris_taken_back.insert(&word.uri);
                self.taken_back.push(word);
            }
        }
    }

    async fn say(self, connection: &mut PgConnection, statements: &Statements) -> Result<usize, sqlx::Error> {
        for reason in ["reply", "quote"] {
            let of_reason = self.taken_back.iter().filter(|word| word.reason == reason);
            let uris: Vec<&str> = of_reason.map(|word| word.uri.as_str()).collect();
            take_back_for(connection, statements, reason, &uris).await?;
        }
        write(connection, statements, &self.told).await
    }
}

/// Writes drafts, but for those whose recipient has muted the thread.
async fn write(
    connection: &mut PgConnection,
    statements: &Statements,
    drafts: &[&Draft<'_>],
) -> Result<usize, sqlx::Error> {
    if drafts.is_empty() {
        return Ok(0);
    }
    let unmuted = if statements.schema().thread_mutes() {
        r#"NOT EXISTS (SELECT FROM thread_mute m WHERE m."mutedByDid" = v.did AND m."rootUri" =
            CASE WHEN v.unknown THEN (SELECT coalesce(p."replyRoot", p.uri) FROM post p WHERE p.uri = v.subject)
            ELSE v.root END)"#
    } else {
        "true"
    };
    let sql = r#"INSERT INTO notification (did, "recordUri", "recordCid", author, reason, "reasonSubject", "sortAt")
        SELECT v.did, v.uri, v.cid, v.author, v.reason, v.subject, v.sort
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bool[], $10::bool[])
            WITH ORDINALITY AS v(did, uri, cid, author, reason, subject, sort, root, unknown, once, at)
        WHERE NOT (v.once AND EXISTS (SELECT FROM notification n WHERE n."recordUri" = v.uri AND n.did = v.did)) AND "#;
    let sql = format!("{sql}{unmuted} ORDER BY v.at");
    let roots = drafts.iter().map(|draft| match &draft.root {
        Root::Known(root) => root.as_deref(),
        Root::LookUp => None,
    });
    let done = statements
        .query(&sql)
        .bind(drafts.iter().map(|draft| draft.recipient.as_str()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.uri.as_ref()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.cid.as_ref()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.author.as_ref()).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.reason).collect::<Vec<_>>())
        .bind(drafts.iter().map(|draft| draft.subject.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(drafts.iter().map(|draft| draft.sort_at.as_str()).collect::<Vec<_>>())
        .bind(roots.collect::<Vec<Option<&str>>>())
        .bind(drafts.iter().map(|draft| matches!(draft.root, Root::LookUp)).collect::<Vec<bool>>())
        .bind(drafts.iter().map(|draft| draft.once).collect::<Vec<bool>>())
        .execute(connection)
        .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// Takes back what was said of records that went.
pub(super) async fn take_back(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() || statements.notifications() == Notifications::Off {
        return Ok(());
    }
    let sql = r#"DELETE FROM notification WHERE "recordUri" = ANY($1)"#;
    statements.query(sql).bind(uris).execute(connection).await?;
    Ok(())
}

/// Takes back what was said of records for one reason.
async fn take_back_for(
    connection: &mut PgConnection,
    statements: &Statements,
    reason: &str,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() || statements.notifications() == Notifications::Off {
        return Ok(());
    }
    let sql = r#"DELETE FROM notification WHERE "recordUri" = ANY($1) AND reason = $2"#;
    statements.query(sql).bind(uris).bind(reason).execute(connection).await?;
    Ok(())
}

/// Before verifications are deleted or replaced: tells their subjects (INDEXING §5.5). The earlier word stays.
pub(super) async fn unverify(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() || statements.notifications() == Notifications::Off {
        return Ok(());
    }
    let sql = r#"INSERT INTO notification (did, "recordUri", "recordCid", author, reason, "sortAt")
        SELECT subject, uri, cid, creator, 'unverified', $2 FROM verification WHERE uri = ANY($1) ORDER BY uri"#;
    statements.query(sql).bind(uris).bind(now_iso()).execute(connection).await?;
    Ok(())
}

fn normalized(uri: &str) -> Option<String> {
    AtUri::parse(uri).map(|uri| uri.normalized())
}

fn host(uri: &str) -> Option<String> {
    AtUri::parse(uri).map(|uri| uri.host().to_owned())
}
