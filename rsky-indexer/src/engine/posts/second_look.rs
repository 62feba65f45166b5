//! After the commit, and before the entries are acknowledged: what other processes wrote beside the batch.
//!
//! Two transactions that do not see each other can hold a post and a reply to it, or a gate and what it is about. Each
//! looks once more when it has committed; whichever commits last sees both. Within one process such entries are in one
//! batch or in batches one after the other ([`crate::order`]), and nothing is found here. The same look does what is more
//! than a page at a time, and finds again what a crash has interrupted.
//!
//! Of an entry that is delivered again, the process that had it may have ended between its commit and its second look. What was
//! judged then is not known any more, so it is looked only for what cannot have been judged rightly: what is flagged and does not
//! deserve it, and what is shown although a gate forbids it. What is hidden was judged by a gate, and stays hidden.
//!
//! Everything is done in pages, each a transaction of its own. Rows that somebody else holds are passed over first and
//! waited for in the end, one at a time, so that nothing is held while a row is waited for.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::above::load_above;
use super::earlier::{self, Earlier, EarlierPosts, Gate, Lock, PAGE, Seeds};
use super::judge::{Verdicts, told_by};
use super::refs::{self, ThreadRefs};
use super::view::View;
use crate::collections::PartsKind;
use crate::engine::aggregates::Deltas;
use crate::engine::change::{Action, Change, Content};
use crate::engine::load::Known;
use crate::engine::notifications::{self, Notifications, Word};
use crate::engine::sql::Statements;
use crate::engine::{EngineError, begin, end};

/// What a batch has to look at once more.
#[derive(Debug, Default)]
pub(in crate::engine) struct Unseen<'c> {
    posts: Vec<(&'c Change, &'c Content)>,
    /// Replies that got a row without the flag, and posts that are no replies.
    sound: HashSet<&'c str>,
    /// Those that were judged; the others had nothing to do.
    judged: HashSet<&'c str>,
    /// Stored replies that lost their flag: others may have answered them meanwhile.
    made_sound: HashSet<String>,
    gates_in_sight: HashSet<String>,
    new_gates: Vec<(Gate, PartsKind)>,
    /// Posts and gates that were written before, by a process that may have ended before its second look.
    posts_again: Vec<&'c str>,
    gates_again: Vec<(Gate, PartsKind)>,
    /// Stored posts that were looked at.
    looked_at: HashSet<String>,
    /// Earlier posts that were judged by gates, in the batch or before it.
    judged_by_gates: HashSet<String>,
    /// Posts that came alone and have more quotes than are judged at a time.
    more_quotes: Vec<String>,
}

impl<'c> Unseen<'c> {
    /// Before the batch is judged. `again`: records of entries that were delivered before.
    pub(in crate::engine) fn of(changes: &[&'c Change], known: &Known<'_>, again: &HashSet<&str>) -> Self {
        let mut unseen = Self::default();
        let mut touched: HashSet<&str> = HashSet::default();
        for change in changes {
            let kind = change.collection.parts;
            if kind == PartsKind::None {
                continue;
            }
            // After another change of the batch it is no second delivery.
            let is_first = touched.insert(&change.uri);
            let Some(content) = change.content() else { continue };
            if kind == PartsKind::Post {
                unseen.posts.push((change, content));
            }
            if !is_first || !again.contains(change.uri.as_str()) || !known.was_applied(change) {
                continue;
            }
            if kind == PartsKind::Post {
                unseen.posts_again.push(&change.uri);
            } else if matches!(change.action, Action::Create(_)) {
                // One that replaced another has judged nobody.
                let (post, time) = (refs::post_of_gate(change), change.time.clone());
                unseen.gates_again.push((Gate { post, time, post_time: None, again: true }, kind));
            }
        }
        unseen
    }

    /// A wave has been judged.
    pub(in crate::engine) fn judged(&mut self, verdicts: &Verdicts<'c>) {
        for (uri, flags) in verdicts.judged() {
            self.judged.insert(uri);
            if flags.invalid_reply_root == Some(true) {
                self.sound.remove(uri);
            } else {
                self.sound.insert(uri);
            }
        }
        self.gates_in_sight.extend(verdicts.gates_in_sight().map(str::to_owned));
        self.new_gates.extend(verdicts.new_gates().iter().cloned());
        self.judged_by_gates.extend(verdicts.judged_by_gates().map(str::to_owned));
        self.looked_at.extend(verdicts.looked_at().map(str::to_owned));
        self.more_quotes.extend_from_slice(verdicts.more_quotes());
        let lost_it = |post: &&&Earlier| post.flags.invalid_reply_root != Some(true);
        let changed = verdicts.changed();
        self.made_sound.extend(changed.iter().filter(lost_it).map(|post| post.uri.clone()));
    }
}

/// Looks once more; returns how many rows changed. Doing it again does nothing.
///
/// # Errors
/// See [`EngineError`]; the batch has committed.
pub(in crate::engine) async fn after_commit(
    connection: &mut PgConnection,
    statements: &Statements,
    unseen: Unseen<'_>,
) -> Result<usize, EngineError> {
    if unseen.posts.is_empty() && unseen.new_gates.is_empty() && unseen.gates_again.is_empty() {
        return Ok(0);
    }
    let mut rows = 0;
    for look in first_looks(connection, statements, &unseen).await? {
        rows += look.go(connection, statements).await?;
    }
    Ok(rows)
}

/// What is to be looked at, and whether those above are told.
#[derive(Debug, Default)]
struct Look {
    seeds: Seeds,
    /// Gates that the seeds' posts are judged by, and whether they have come into sight only now.
    gates: Vec<(Gate, PartsKind, bool)>,
    tells: bool,
    /// Judged by gates already, and not to be again.
    judged_by_gates: HashSet<String>,
    /// Posts whose quotes are judged, since they have come.
    quoted: Vec<String>,
    /// Posts that have come before; it is not known whether their quotes have been judged since.
    quoted_again: Vec<String>,
}

/// Replies that are flagged though what they answer is there and sound.
pub(crate) const UNDESERVED: &str = r#"SELECT c.uri FROM post c JOIN post p ON p.uri = c."replyParent" JOIN record r ON r.uri = p.uri
    WHERE c.uri = ANY($1) AND c."invalidReplyRoot" AND r.json <> '' AND p."invalidReplyRoot" IS NOT TRUE
        AND CASE WHEN c."replyRoot" = p.uri THEN p."replyRoot" IS NULL ELSE p."replyRoot" = c."replyRoot" END"#;

/// The questions whether there is anything to look at, over the whole batch. Mostly there is not.
async fn first_looks(
    connection: &mut PgConnection,
    statements: &Statements,
    unseen: &Unseen<'_>,
) -> Result<Vec<Look>, EngineError> {
    begin(connection, statements).await?;
    let looks = look_over(connection, statements, unseen).await;
    end(connection, looks.map_err(EngineError::from)).await
}

async fn look_over(
    connection: &mut PgConnection,
    statements: &Statements,
    unseen: &Unseen<'_>,
) -> Result<Vec<Look>, sqlx::Error> {
    let (mut live, mut others) = (Look { tells: true, ..Look::default() }, Look::default());
    let uris: Vec<&str> = unseen.posts.iter().map(|(change, _)| change.uri.as_str()).collect();
    // What a post that was written before has made sound then is not known any more.
    let below = earlier::below(connection, statements, &unseen.posts_again).await?;
    let made_sound: HashSet<&str> = unseen.made_sound.iter().chain(&below).map(String::as_str).collect();
    let asked: Vec<&str> = uris.iter().copied().chain(made_sound.iter().copied()).collect();
    // What the batch has looked at itself is as it should be, but for what other processes did.
    let doubtful: Vec<&str> = unseen
        .posts
        .iter()
        .filter(|(change, content)| {
            !unseen.sound.contains(change.uri.as_str()) && ThreadRefs::of(change, content).is_some()
        })
        .map(|(change, _)| change.uri.as_str())
        .chain(unseen.looked_at.iter().map(String::as_str))
        .collect();
    let answered = earlier::answered(connection, statements, &asked, &doubtful).await?;
    // Whether those that made them sound were live is not known here.
    let of_others = answered.iter().filter(|uri| made_sound.contains(uri.as_str())).cloned();
    others.seeds.answered.extend(of_others);
    let mut flagged: HashSet<String> = HashSet::default();
    if !doubtful.is_empty() {
        let rows = statements.query(UNDESERVED).bind(doubtful).fetch_all(&mut *connection).await?;
        for row in rows {
            flagged.insert(row.try_get(0)?);
        }
    }
    let came_into_sight = gates_that_came_into_sight(connection, statements, unseen).await?;
    for uri in flagged.iter().filter(|uri| unseen.looked_at.contains(*uri)) {
        others.seeds.posts.push(uri.clone());
    }
    for (change, content) in &unseen.posts {
        let look = if change.live { &mut live } else { &mut others };
        if answered.contains(&change.uri) {
            look.seeds.answered.push(change.uri.clone());
        }
        let mut gates: Vec<(Gate, PartsKind, bool)> = Vec::new();
        let judged = unseen.judged.contains(change.uri.as_str());
        for (gate, kind, post) in gates_asked(change, content).into_iter().filter(|_| judged) {
            if let Some(time) = came_into_sight.get(&gate) {
                gates.push((Gate { post, time: time.clone(), post_time: None, again: false }, kind, true));
            }
        }
        if unseen.more_quotes.contains(&change.uri) {
            look.quoted.push(change.uri.clone());
        }
        if flagged.contains(&change.uri) || !gates.is_empty() {
            look.seeds.posts.push(change.uri.clone());
        }
        look.gates.append(&mut gates);
    }
    let (_, quoted_again) = earlier::waited_for(connection, statements, &unseen.posts_again).await?;
    others.quoted_again.extend(quoted_again);
    for look in [&mut live, &mut others] {
        look.seeds.quoted = look.quoted.iter().chain(&look.quoted_again).cloned().collect();
    }
    // A post that came after its gate has judged what waited for it.
    let new_gates: Vec<&(Gate, PartsKind)> = unseen
        .new_gates
        .iter()
        .filter(|(gate, _)| gate.post_time.is_some() || !uris.contains(&gate.post.as_str()))
        .chain(&unseen.gates_again)
        .collect();
    let posts = |of: PartsKind| -> Vec<String> {
        new_gates.iter().filter(|(_, kind)| *kind == of).map(|(gate, _)| gate.post.clone()).collect()
    };
    let (threads, quoted) = (posts(PartsKind::ThreadGate), posts(PartsKind::PostGate));
    let threads = earlier::with_replies(connection, statements, &threads).await?;
    let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
    let (_, quoted) = earlier::waited_for(connection, statements, &quoted).await?;
    for (gate, kind) in new_gates {
        match kind {
            PartsKind::ThreadGate if threads.contains(&gate.post) => {
                others.seeds.thread_gates.push(gate.clone());
            }
            PartsKind::PostGate if quoted.contains(&gate.post) => {
                others.seeds.post_gates.push(gate.clone());
            }
            _ => {}
        }
    }
    others.judged_by_gates = unseen.judged_by_gates.clone();
    others.judged_by_gates.extend(uris.into_iter().map(str::to_owned));
    Ok([live, others].into_iter().filter(|look| !look.seeds.is_empty()).collect())
}

/// The gates that a post is judged by: uri, kind, and the post that the gate belongs to.
fn gates_asked(change: &Change, content: &Content) -> Vec<(String, PartsKind, String)> {
    let thread = ThreadRefs::of(change, content).map(|thread| (thread.root, refs::THREAD_GATE));
    let quoted = content.parts.post().and_then(|parts| parts.record.as_ref());
    let quoted = quoted.map(|quoted| (quoted.uri.as_str(), refs::POST_GATE));
    [(thread, PartsKind::ThreadGate), (quoted, PartsKind::PostGate)]
        .into_iter()
        .filter_map(|(asked, kind)| {
            let (post, collection) = asked?;
            let (owner, gate) = refs::gate(post, collection)?;
            (owner != change.did).then(|| (gate, kind, post.to_owned()))
        })
        .collect()
}

/// Gates that the batch's posts should have been judged by and were not there yet: by uri, with their times.
async fn gates_that_came_into_sight(
    connection: &mut PgConnection,
    statements: &Statements,
    unseen: &Unseen<'_>,
) -> Result<HashMap<String, String>, sqlx::Error> {
    let asked: HashSet<String> = unseen
        .posts
        .iter()
        .flat_map(|(change, content)| gates_asked(change, content))
        .map(|(gate, _, _)| gate)
        .filter(|gate| !unseen.gates_in_sight.contains(gate))
        .collect();
    if asked.is_empty() {
        return Ok(HashMap::default());
    }
    let asked: Vec<String> = asked.into_iter().collect();
    let sql = r#"SELECT uri, "indexedAt" FROM record WHERE uri = ANY($1) AND json <> ''"#;
    let rows = statements.query(sql).bind(asked).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// What a page has come to.
#[derive(Debug, Default)]
struct Page {
    rows: usize,
    /// Replies that have lost their flag.
    mended: Vec<String>,
    held: Vec<String>,
    /// There is more after this uri.
    more_after: Option<String>,
}

impl Look {
    async fn go(
        mut self,
        connection: &mut PgConnection,
        statements: &Statements,
    ) -> Result<usize, EngineError> {
        let mut rows = 0;
        let mut held: Vec<String> = Vec::new();
        let kinds = [
            (&self.seeds.thread_gates, PartsKind::ThreadGate),
            (&self.seeds.post_gates, PartsKind::PostGate),
        ];
        let mut gates: Vec<(Gate, PartsKind, bool)> = Vec::new();
        for (of_kind, kind) in kinds {
            gates.extend(of_kind.iter().map(|gate| (gate.clone(), kind, false)));
        }
        // Ends: a reply loses its flag once.
        while !self.seeds.is_empty() {
            let mut mended: Vec<String> = Vec::new();
            let mut after = Some(String::new());
            while let Some(from) = after.take() {
                let mut page = self.page(connection, statements, &from, Lock::SkipHeld).await?;
                rows += page.rows;
                mended.append(&mut page.mended);
                held.append(&mut page.held);
                after = page.more_after;
            }
            self.seeds = self.next_level(connection, statements, &mended).await?;
        }
        // What is taken alone now is judged by the gates that have found it.
        self.gates.append(&mut gates);
        for uri in held {
            self.seeds = Seeds { posts: vec![uri], ..Seeds::default() };
            while !self.seeds.is_empty() {
                let page = self.page(connection, statements, "", Lock::Wait).await?;
                rows += page.rows;
                self.seeds = self.next_level(connection, statements, &page.mended).await?;
            }
        }
        Ok(rows)
    }

    /// The replies that have lost their flag and have flagged replies themselves.
    async fn next_level(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        mended: &[String],
    ) -> Result<Seeds, EngineError> {
        let mut seeds = Seeds::default();
        for part in mended.chunks(PAGE) {
            let part: Vec<&str> = part.iter().map(String::as_str).collect();
            begin(connection, statements).await?;
            let answered = earlier::answered(connection, statements, &part, &[]).await;
            let answered = end(connection, answered.map_err(EngineError::from)).await?;
            seeds.answered.extend(answered);
        }
        Ok(seeds)
    }

    async fn page(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        after: &str,
        lock: Lock,
    ) -> Result<Page, EngineError> {
        begin(connection, statements).await?;
        let page = self.page_in_transaction(connection, statements, after, lock).await;
        end(connection, page).await
    }

    async fn page_in_transaction(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        after: &str,
        lock: Lock,
    ) -> Result<Page, EngineError> {
        let found = earlier::load_page(connection, statements, &self.seeds, after, lock).await?;
        let more_after = found.last.filter(|_| found.more);
        let mut page = Page { held: found.held, more_after, ..Page::default() };
        let mut earlier = EarlierPosts::default();
        found.posts.into_iter().for_each(|post| earlier.add(post));
        let mut gates: Vec<(&Gate, PartsKind, bool)> =
            self.gates.iter().map(|(gate, kind, came_into_sight)| (gate, *kind, *came_into_sight)).collect();
        for gate in &self.seeds.thread_gates {
            gates.push((gate, PartsKind::ThreadGate, false));
        }
        for gate in &self.seeds.post_gates {
            gates.push((gate, PartsKind::PostGate, false));
        }
        let roots: Vec<String> = gates.iter().map(|(gate, _, _)| gate.post.clone()).collect();
        let mut view = View::load(connection, statements, &[], &[], earlier, roots.into_iter()).await?;
        let nothing = HashSet::default();
        for (gate, kind, came_into_sight) in gates {
            view.judge_by_gate(gate, kind, if came_into_sight { &nothing } else { &self.judged_by_gates });
        }
        let mut parents: Vec<String> = view.earlier.all().filter_map(|post| post.parent.clone()).collect();
        parents.sort_unstable();
        parents.dedup();
        let mut sound: Vec<String> = Vec::new();
        for parent in parents.iter().filter(|parent| view.is_sound(parent)).cloned().collect::<Vec<_>>() {
            sound.extend(view.judge_answers(&parent));
        }
        let mut allowed: Vec<(String, &str)> = Vec::new();
        for post in &self.quoted {
            let quotes = view.judge_quotes(post);
            allowed.extend(quotes.into_iter().map(|quote| (quote, post.as_str())));
        }
        self.quoted_again.iter().for_each(|post| view.judge_quotes_again(post));
        let changed = view.earlier.changed();
        let mut deltas = Deltas::default();
        page.rows = earlier::write(connection, statements, &changed, &mut deltas).await?;
        let words: Vec<Word<'_>> = view.taken_back.iter().cloned().map(Word::TakenBack).collect();
        notifications::say(connection, statements, &words).await?;
        if self.tells && statements.notifications() == Notifications::Live {
            let sound = sound.iter().filter_map(|uri| view.earlier.get(uri));
            self.tell(connection, statements, &view, sound.collect()).await?;
            let quotes = allowed.iter().filter_map(|(uri, post)| Some((view.earlier.get(uri)?, *post)));
            let words: Vec<Word<'_>> =
                quotes.flat_map(|(quote, post)| notifications::words_of_quote(quote, post)).collect();
            notifications::say(connection, statements, &words).await?;
        }
        deltas.write(connection, statements).await?;
        page.mended = sound;
        Ok(page)
    }

    /// Tells those above replies that have lost their flag.
    async fn tell(
        &self,
        connection: &mut PgConnection,
        statements: &Statements,
        view: &View,
        replies: Vec<&Earlier>,
    ) -> Result<(), sqlx::Error> {
        let replies: Vec<&Earlier> =
            replies.into_iter().filter(|reply| reply.flags.violates_thread_gate != Some(true)).collect();
        let nearest: Vec<&str> =
            replies.iter().filter_map(|reply| reply.thread()).map(|thread| thread.parent).collect();
        let mut parents = load_above(connection, statements, &nearest, |_| std::iter::empty()).await?;
        parents.extend(replies.iter().map(|reply| (reply.uri.clone(), reply.parent.clone())));
        let mut words = Vec::new();
        for reply in replies {
            let above = told_by(&parents, view, &reply.uri, reply.thread());
            words.extend(notifications::words_of_reply(reply, &above));
        }
        notifications::say(connection, statements, &words).await?;
        Ok(())
    }
}
