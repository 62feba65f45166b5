//! Before a wave writes: goes through its changes in batch order and finds the flags of each post, as they would be if
//! the changes were written one at a time; and of the posts that came earlier than what they are judged by.

use foldhash::{HashMap, HashSet};
use sqlx::PgConnection;

use super::above::{MOST_ANCESTORS, load_above};
use super::earlier::{self, Earlier, EarlierPosts, Gate, Seeds};
use super::evaluate::is_invalid;
use super::refs::{self, ThreadRefs, Threads};
use super::view::{View, Viewer};
use crate::collections::parts::Parts;
use crate::collections::{Flags, GATED_POST, PartsKind, post_columns};
use crate::engine::EngineError;
use crate::engine::change::{Change, Content};
use crate::engine::notifications::TakenBack;
use crate::engine::sql::Statements;
use crate::text::at_uri::AtUri;

/// What the wave's changes find when it is their turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct Verdicts<'c> {
    flags: HashMap<&'c str, Flags>,
    /// Gates whose post does not exist yet when they come, by the gate's uri.
    too_early: HashSet<&'c str>,
    /// Those that each post tells, nearest first.
    told: HashMap<&'c str, Vec<String>>,
    /// By a post that has come: what it has made sound.
    made_sound: HashMap<&'c str, MadeSound>,
    /// By a post or gate that has come: what was said of earlier posts, and holds no more.
    taken_back: HashMap<&'c str, Vec<TakenBack>>,
    /// The post that each post answers.
    parents: HashMap<String, Option<String>>,
    view: View,
    new_gates: Vec<(Gate, PartsKind)>,
    more_quotes: Vec<String>,
}

/// Earlier posts that have lost a flag because of a post that came.
#[derive(Debug, Default)]
pub(in crate::engine) struct MadeSound {
    /// Replies that the gate allows, each with the posts above it that are to be told, nearest first.
    pub replies: Vec<(String, Vec<String>)>,
    /// Quotes of the post.
    pub quotes: Vec<String>,
}

impl<'c> Verdicts<'c> {
    /// What was said of earlier posts before a change and holds no more.
    pub(in crate::engine) fn taken_back_by(&self, uri: &str) -> &[TakenBack] {
        self.taken_back.get(uri).map_or(&[], Vec::as_slice)
    }

    /// What a post is found to be when it comes, whatever comes after it in the wave.
    pub(in crate::engine) fn flags_at_first(&self, uri: &str) -> Flags {
        self.flags.get(uri).copied().unwrap_or_default()
    }

    /// The flags of a post's new row.
    pub(in crate::engine) fn flags(&self, uri: &str) -> Flags {
        if let Some(post) = self.view.earlier.get(uri).filter(|post| post.stored.is_none()) {
            return post.flags;
        }
        self.flags_at_first(uri)
    }

    /// Whether a post was judged: it may get a row.
    pub(in crate::engine) fn is_judged(&self, uri: &str) -> bool {
        self.flags.contains_key(uri)
    }

    /// The posts above one that are to be told of it, nearest first.
    pub(in crate::engine) fn told_of(&self, uri: &str) -> &[String] {
        self.told.get(uri).map_or(&[], Vec::as_slice)
    }

    /// What a post has made sound that came before it.
    pub(in crate::engine) fn made_sound_by(&self, uri: &str) -> Option<&MadeSound> {
        self.made_sound.get(uri)
    }

    /// A post that came earlier than what it is judged by.
    pub(in crate::engine) fn earlier(&self, uri: &str) -> Option<&Earlier> {
        self.view.earlier.get(uri)
    }

    /// Stored posts that are found to be something else than their rows say.
    pub(in crate::engine) fn changed(&self) -> Vec<&Earlier> {
        self.view.earlier.changed()
    }

    /// Whether a gate finds its post, as far as the wave can say.
    pub(in crate::engine) fn finds_its_post(&self, gate: &str) -> bool {
        !self.too_early.contains(gate)
    }

    /// The posts that were judged, and what they were found to be.
    pub(in crate::engine) fn judged(&self) -> impl Iterator<Item = (&'c str, Flags)> + '_ {
        self.flags.keys().map(|uri| (*uri, self.flags(uri)))
    }

    /// The gates that were in sight.
    pub(in crate::engine) fn gates_in_sight(&self) -> impl Iterator<Item = &str> {
        self.view.gates()
    }

    /// The stored posts that were looked at.
    pub(in crate::engine) fn looked_at(&self) -> impl Iterator<Item = &str> {
        self.view.earlier.all().filter(|post| post.stored.is_some()).map(|post| post.uri.as_str())
    }

    /// The earlier posts that were judged by a gate.
    pub(in crate::engine) fn judged_by_gates(&self) -> impl Iterator<Item = &str> {
        self.view.judged_by_gates.iter().map(String::as_str)
    }

    /// Posts that came alone and have more quotes than are judged at a time.
    pub(in crate::engine) fn more_quotes(&self) -> &[String] {
        &self.more_quotes
    }

    /// The gates that are new.
    pub(in crate::engine) fn new_gates(&self) -> &[(Gate, PartsKind)] {
        &self.new_gates
    }
}

/// What is asked about the changes of a wave.
pub(in crate::engine) struct Rules<'r, T, N> {
    /// Whether a change tells the posts above.
    pub tells: T,
    /// Whether a change brings a record that was not there.
    pub is_new: N,
    /// The threads of the batch.
    pub threads: &'r Threads<'r>,
    /// Whether the batch has only this change: then what is more than a page is left for later, else it is an error.
    pub alone: bool,
}

/// Judges a wave; `wave` holds its changes in batch order, as far as they write something. What has nothing to do says
/// nothing: what it would say is stored already, or was overtaken.
///
/// # Errors
/// Those of the database, and [`EngineError::TooMuch`].
pub(in crate::engine) async fn judge<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    wave: &[&'c Change],
    rules: Rules<'_, impl Fn(&Change) -> bool, impl Fn(&Change) -> bool>,
) -> Result<Verdicts<'c>, EngineError> {
    let mut verdicts = Verdicts::default();
    if wave.iter().all(|change| change.collection.parts == PartsKind::None) {
        return Ok(verdicts);
    }
    let posts: Vec<(&'c Change, &'c Content)> = wave
        .iter()
        .filter(|change| change.collection.parts == PartsKind::Post)
        .filter_map(|change| Some((*change, change.content()?)))
        .collect();
    let times: HashMap<&str, &str> =
        posts.iter().map(|(change, _)| (change.uri.as_str(), change.time.as_str())).collect();
    let gates = Gates::of(wave, &times, |change| (rules.is_new)(change));
    let seeds = Seeds {
        answered: named(&posts, |uri| rules.threads.is_answered(uri)),
        quoted: named(&posts, |uri| rules.threads.is_quoted(uri)),
        gated: gates.post.values().map(|gate| gate.post.clone()).collect(),
        thread_gates: gates
            .thread
            .values()
            .filter(|gate| rules.threads.has_replies(&gate.post))
            .cloned()
            .collect(),
        post_gates: gates.post.values().cloned().collect(),
        posts: Vec::new(),
    };
    let mut earlier = EarlierPosts::default();
    if !seeds.is_empty() {
        let found = earlier::load(connection, statements, &seeds).await?;
        // Replies that are held by others, and what is more than a page where there is nothing else, are left for the second
        // look.
        if found.more && !rules.alone {
            return Err(EngineError::TooMuch);
        }
        if found.more {
            verdicts.more_quotes.clone_from(&seeds.quoted);
        }
        // What the wave writes anew is not what is stored.
        let is_stored = |post: &Earlier| !times.contains_key(post.uri.as_str());
        found.posts.into_iter().filter(is_stored).for_each(|post| earlier.add(post));
    }
    let viewers: Vec<Viewer<'_>> =
        posts.iter().map(|(change, content)| Viewer::of(change, content)).collect();
    let roots = gates.thread.values().chain(gates.post.values()).map(|gate| gate.post.clone());
    verdicts.view = View::load(connection, statements, &viewers, wave, earlier, roots).await?;
    if posts.iter().any(|(change, _)| (rules.tells)(change)) {
        verdicts.load_parents(connection, statements, &posts, &rules.tells).await?;
    }
    let waited_for = WaitedFor::of(&seeds, &gates);
    let mut to_come: HashSet<&str> = times.keys().copied().collect();
    for change in wave {
        let Some(content) = change.content() else { continue };
        match change.collection.parts {
            PartsKind::Post if to_come.remove(change.uri.as_str()) => {
                let tells = (rules.tells)(change);
                verdicts.post_comes(change, content, tells, &waited_for);
            }
            PartsKind::ThreadGate | PartsKind::PostGate => {
                let post = gated_post(change, content);
                if post.is_some_and(|post| to_come.contains(post.as_str())) {
                    verdicts.too_early.insert(&change.uri);
                }
                verdicts.view.add_other(change, content);
                if let Some(gate) = gates.of_change(change) {
                    verdicts.gate_comes(gate.clone(), change.collection.parts);
                }
            }
            PartsKind::Post => {}
            PartsKind::None => verdicts.view.add_other(change, content),
        }
        let taken_back = std::mem::take(&mut verdicts.view.taken_back);
        if !taken_back.is_empty() {
            verdicts.taken_back.insert(&change.uri, taken_back);
        }
    }
    Ok(verdicts)
}

/// The gates that are new in a wave, by their uris.
struct Gates<'c> {
    thread: HashMap<&'c str, Gate>,
    post: HashMap<&'c str, Gate>,
}

impl<'c> Gates<'c> {
    fn of(wave: &[&'c Change], times: &HashMap<&str, &str>, is_new: impl Fn(&Change) -> bool) -> Self {
        let mut gates = Self { thread: HashMap::default(), post: HashMap::default() };
        for change in wave.iter().filter(|change| change.content().is_some() && is_new(change)) {
            let list = match change.collection.parts {
                PartsKind::ThreadGate => &mut gates.thread,
                PartsKind::PostGate => &mut gates.post,
                PartsKind::None | PartsKind::Post => continue,
            };
            let post = refs::post_of_gate(change);
            let post_time = times.get(post.as_str()).map(|time| (*time).to_owned());
            list.insert(&change.uri, Gate { post, time: change.time.clone(), post_time, again: false });
        }
        gates
    }
}

impl Gates<'_> {
    fn of_change(&self, change: &Change) -> Option<&Gate> {
        let uri = change.uri.as_str();
        self.thread.get(uri).or_else(|| self.post.get(uri))
    }
}

/// What comes in a wave that posts of the wave before it may be judged by.
struct WaitedFor<'w> {
    quoted: HashSet<&'w str>,
    gated_posts: HashSet<&'w str>,
}

impl<'w> WaitedFor<'w> {
    fn of(seeds: &'w Seeds, gates: &'w Gates<'_>) -> Self {
        Self {
            quoted: seeds.quoted.iter().map(String::as_str).collect(),
            gated_posts: gates.post.values().map(|gate| gate.post.as_str()).collect(),
        }
    }

    /// Whether a post may be judged again by what comes later in the wave.
    fn may_change(&self, post: &Earlier) -> bool {
        let waits_in =
            |set: &HashSet<&str>, uri: &Option<String>| uri.as_deref().is_some_and(|uri| set.contains(uri));
        post.flags.invalid_reply_root == Some(true)
            || waits_in(&self.quoted, &post.quoted)
            || waits_in(&self.gated_posts, &post.quoted)
    }
}

/// The uris of the posts that something is said of.
fn named(posts: &[(&Change, &Content)], says: impl Fn(&str) -> bool) -> Vec<String> {
    posts.iter().map(|(change, _)| &change.uri).filter(|uri| says(uri)).cloned().collect()
}

impl<'c> Verdicts<'c> {
    /// What the posts answer that tell somebody, or make others tell.
    async fn load_parents(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        posts: &[(&'c Change, &'c Content)],
        tells: &impl Fn(&Change) -> bool,
    ) -> Result<(), sqlx::Error> {
        let answered: HashMap<&str, &str> = posts
            .iter()
            .filter_map(|(change, content)| {
                Some((change.uri.as_str(), ThreadRefs::of(change, content)?.parent))
            })
            .collect();
        let earlier = self.view.earlier.all().filter(|post| post.stored.is_some());
        self.parents.extend(earlier.map(|post| (post.uri.clone(), post.parent.clone())));
        let tellers = posts.iter().filter(|(change, _)| tells(change));
        let nearest: Vec<&str> =
            tellers.filter_map(|(change, _)| answered.get(change.uri.as_str()).copied()).collect();
        let of_earlier = |uri: &str| self.parents.get(uri).and_then(Option::as_deref);
        let elsewhere = |uri: &str| answered.get(uri).copied().into_iter().chain(of_earlier(uri));
        let stored = load_above(connection, statements, &nearest, elsewhere).await?;
        self.parents.extend(stored);
        Ok(())
    }

    fn gate_comes(&mut self, mut gate: Gate, kind: PartsKind) {
        // Whatever becomes of the post: the gate is about the one that it finds.
        gate.post_time = self.view.post_time(&gate.post);
        if gate.post_time.is_some() {
            self.view.judge_by_gate(&gate, kind, &HashSet::default());
        }
        self.new_gates.push((gate, kind));
    }

    fn post_comes(
        &mut self,
        change: &'c Change,
        content: &'c Content,
        tells: bool,
        waited_for: &WaitedFor<'_>,
    ) {
        let flags = self.judge_post(change, content);
        self.flags.insert(&change.uri, flags);
        let parent = ThreadRefs::of(change, content).map(|reply| reply.parent.to_owned());
        self.parents.insert(change.uri.clone(), parent);
        if tells {
            let told = self.told_by(&change.uri, ThreadRefs::of(change, content));
            self.told.insert(&change.uri, told);
        }
        let mut made_sound = MadeSound::default();
        if flags.invalid_reply_root != Some(true) {
            for uri in self.view.judge_answers(&change.uri) {
                let Some(reply) = self.view.earlier.get(&uri).filter(|_| tells) else { continue };
                if reply.flags.violates_thread_gate != Some(true) {
                    let told = self.told_by(&uri, reply.thread());
                    made_sound.replies.push((uri, told));
                }
            }
        }
        made_sound.quotes = self.view.judge_quotes(&change.uri);
        if tells && !(made_sound.replies.is_empty() && made_sound.quotes.is_empty()) {
            self.made_sound.insert(&change.uri, made_sound);
        }
        let post = as_earlier(change, content, flags);
        if waited_for.may_change(&post) {
            self.view.earlier.add(post);
        }
    }

    fn told_by(&self, uri: &str, thread: Option<ThreadRefs<'_>>) -> Vec<String> {
        told_by(&self.parents, &self.view, uri, thread)
    }

    fn judge_post(&mut self, change: &'c Change, content: &Content) -> Flags {
        let mut flags = Flags::default();
        // A post can name itself.
        self.view.add_post(change, content, false);
        if let Some(reply) = ThreadRefs::of(change, content) {
            let invalid = is_invalid(reply, &self.view);
            let violates = self.view.is_kept_out(&change.did, reply.root);
            flags.set_reply(invalid, violates);
            if invalid {
                self.view.add_post(change, content, true);
            }
        }
        if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref())
            && self.view.is_forbidden(&change.did, &quoted.uri)
        {
            flags.violates_embedding_rules = Some(true);
        }
        flags
    }
}

/// The posts above one that are to be told of it: up to the one that the gate hides (INDEXING §5.1). `parents` has the
/// posts that exist, each with what it answers.
pub(super) fn told_by(
    parents: &HashMap<String, Option<String>>,
    view: &View,
    uri: &str,
    thread: Option<ThreadRefs<'_>>,
) -> Vec<String> {
    let hidden = thread.and_then(|thread| view.gate_of_thread(thread.root)).map(|gate| &gate.hidden);
    let mut above: Vec<String> = Vec::new();
    let mut at = uri;
    while above.len() < MOST_ANCESTORS
        && let Some(Some(parent)) = parents.get(at)
        && parents.contains_key(parent)
    {
        above.push(parent.clone());
        if hidden.is_some_and(|hidden| hidden.contains(parent)) {
            break;
        }
        at = parent;
    }
    above
}

fn as_earlier(change: &Change, content: &Content, flags: Flags) -> Earlier {
    let thread = ThreadRefs::of(change, content);
    let quoted = content.parts.post().and_then(|parts| parts.record.as_ref());
    let context = change.context(content);
    let created = content.row.as_ref().and_then(|row| row.value(post_columns::CREATED_AT, &context));
    Earlier {
        uri: change.uri.clone(),
        cid: content.cid.clone(),
        did: change.did.clone(),
        root: thread.map(|thread| thread.root.to_owned()),
        parent: thread.map(|thread| thread.parent.to_owned()),
        quoted: quoted.map(|quoted| quoted.uri.clone()).filter(|uri| refs::is_post(uri)),
        time: change.time.clone(),
        sort_at: created.map_or(change.time.as_str(), |created| created.min(&change.time)).to_owned(),
        flags,
        stored: None,
        // The thread's gate is in a later wave, if it judges any post of the batch before it.
        is_in_reach: false,
    }
}

/// The post that a gate belongs to, as its uri stands in `post`.
pub(in crate::engine) fn gated_post(change: &Change, content: &Content) -> Option<String> {
    if !matches!(content.parts, Parts::ThreadGate(_) | Parts::PostGate(_)) {
        return None;
    }
    let row = content.row.as_ref()?;
    let context = change.context(content);
    let uri = AtUri::parse(row.value(GATED_POST, &context)?)?;
    Some(["at://", uri.host(), "/", uri.collection(), "/", uri.rkey()].concat())
}
