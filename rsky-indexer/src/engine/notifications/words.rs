//! What is said of a wave's records, and to whom. No I/O.

use std::borrow::Cow;

use foldhash::{HashMap, HashSet};

use super::Notifications;
use crate::collections::{
    Flags, JOINED_VIA, Notifies, follow_columns, post_columns, subject_columns, verification_columns,
};
use crate::engine::change::{Action, Change, Content};
use crate::engine::load::Known;
use crate::engine::posts::earlier::Earlier;
use crate::engine::posts::judge::Verdicts;
use crate::engine::posts::refs::{self, ThreadRefs};
use crate::text::at_uri::AtUri;

/// A step of what is said of the records of a wave. The steps are made as if each change had come alone.
#[derive(Debug)]
pub(in crate::engine) enum Word<'c> {
    /// Somebody is told.
    Told(Draft<'c>),
    /// What was said before holds no more.
    TakenBack(TakenBack),
}

impl<'c> Word<'c> {
    /// The change that must get its row for it; `None`: it is said in any case.
    pub(in crate::engine) fn owner(&self) -> Option<&'c Change> {
        match self {
            Self::Told(draft) => draft.owner,
            Self::TakenBack(_) => None,
        }
    }
}

/// What was said of a record for one reason, and holds no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct TakenBack {
    pub uri: String,
    pub reason: &'static str,
}

/// A notification that is to be written.
#[derive(Debug)]
pub(in crate::engine) struct Draft<'c> {
    /// The change that must get its row for it.
    owner: Option<&'c Change>,
    /// Which of the wave's changes makes it.
    pub(super) step: usize,
    /// The record that it is about: its uri, its CID, its author.
    pub(super) uri: Cow<'c, str>,
    pub(super) cid: Cow<'c, str>,
    pub(super) author: Cow<'c, str>,
    /// Not if the recipient has been told of the record by an earlier step.
    pub(super) once: bool,
    /// Whom it tells, why, and of what of theirs.
    pub(super) recipient: String,
    pub(super) reason: &'static str,
    pub(super) subject: Option<String>,
    pub(super) root: Root,
    /// The time it is sorted by.
    pub(super) sort_at: String,
}

/// The thread that a notification's subject belongs to, which its recipient may have muted.
#[derive(Debug)]
pub(super) enum Root {
    /// Whatever the table of posts says.
    LookUp,
    /// The wave knows better: the root, or that there is no such post yet.
    Known(Option<String>),
}

/// Whether a change's new row tells anybody, as far as that is known before the wave writes.
pub(in crate::engine) fn may_notify(mode: Notifications, change: &Change, known: &Known<'_>) -> bool {
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
pub(in crate::engine) fn words<'c>(
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
pub(in crate::engine) fn words_of_reply<'c>(reply: &Earlier, above: &[String]) -> Vec<Word<'c>> {
    let mut drafter = Drafter::default();
    drafter.add_earlier_reply(None, reply, above);
    drafter.words
}

/// What is said of an earlier quote that is found to be allowed: to the author of the quoted post.
pub(in crate::engine) fn words_of_quote<'c>(quote: &Earlier, post: &str) -> Vec<Word<'c>> {
    let mut drafter = Drafter::default();
    if let Some(owner) = host(post).filter(|owner| *owner != quote.did) {
        drafter.push_earlier(None, quote, owner, "quote", post);
    }
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

fn normalized(uri: &str) -> Option<String> {
    AtUri::parse(uri).map(|uri| uri.normalized())
}

fn host(uri: &str) -> Option<String> {
    AtUri::parse(uri).map(|uri| uri.host().to_owned())
}
