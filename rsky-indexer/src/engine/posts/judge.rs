//! Before a wave writes: goes through its changes in batch order and finds the flags of each post, as they would be if
//! the changes were written one at a time.

use foldhash::{HashMap, HashSet};
use sqlx::PgConnection;

use super::evaluate::{is_invalid, violates};
use super::refs::{self, ThreadRefs};
use super::repair::Mended;
use super::view::View;
use crate::collections::parts::Parts;
use crate::collections::{Flags, GATED_POST, PartsKind};
use crate::engine::change::{Change, Content};
use crate::engine::notifications::{MOST_ANCESTORS, load_parents};
use crate::engine::sql::Statements;
use crate::text::at_uri::AtUri;

/// What the wave's changes find when it is their turn.
#[derive(Debug, Default)]
pub(in crate::engine) struct Verdicts<'c> {
    flags: HashMap<&'c str, Flags>,
    /// Gates whose post does not exist yet when they come, by the gate's uri.
    too_early: HashSet<&'c str>,
    /// The posts above each post that tells them, nearest first.
    ancestors: HashMap<&'c str, Vec<String>>,
    /// The post that each post answers.
    parents: HashMap<String, Option<String>>,
    view: View,
}

impl Verdicts<'_> {
    /// The flags of a post's new row.
    pub(in crate::engine) fn flags(&self, uri: &str) -> Flags {
        self.flags.get(uri).copied().unwrap_or_default()
    }

    /// Whether a post was judged: it may get a row.
    pub(in crate::engine) fn is_judged(&self, uri: &str) -> bool {
        self.flags.contains_key(uri)
    }

    /// The posts above one that tells them, nearest first, at most [`MOST_ANCESTORS`].
    pub(in crate::engine) fn ancestors(&self, uri: &str) -> &[String] {
        self.ancestors.get(uri).map_or(&[], Vec::as_slice)
    }

    /// Whether the gate of a reply's thread hides `post`: nobody above it is told.
    pub(in crate::engine) fn hides(&self, reply: &Change, content: &Content, post: &str) -> bool {
        ThreadRefs::of(reply, content)
            .and_then(|reply| refs::gate(reply.root, refs::THREAD_GATE))
            .and_then(|(_, gate)| self.view.thread_gates.get(&gate))
            .is_some_and(|gate| gate.hidden.iter().any(|hidden| hidden == post))
    }

    /// Whether a gate finds its post, as far as the wave can say.
    pub(in crate::engine) fn finds_its_post(&self, gate: &str) -> bool {
        !self.too_early.contains(gate)
    }
}

/// Judges a wave. `wave` holds its writing changes in batch order; `is_judged` says which of them may get a row, `tells`
/// which of them tell the posts above; `mended` are replies that are sound, whatever their rows say.
pub(in crate::engine) async fn judge<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    wave: &[&'c Change],
    is_judged: impl Fn(&Change) -> bool,
    tells: impl Fn(&Change) -> bool,
    mended: &Mended,
) -> Result<Verdicts<'c>, sqlx::Error> {
    let mut verdicts = Verdicts::default();
    if wave.iter().all(|change| change.collection.parts == PartsKind::None) {
        return Ok(verdicts);
    }
    let posts: Vec<(&'c Change, &'c Content)> = wave
        .iter()
        .filter(|change| change.collection.parts == PartsKind::Post && is_judged(change))
        .filter_map(|change| Some((*change, change.content()?)))
        .collect();
    verdicts.view = View::load(connection, statements, &posts, wave, mended).await?;
    if posts.iter().any(|(change, _)| tells(change)) {
        let answered: HashMap<&str, &str> = posts
            .iter()
            .filter_map(|(change, content)| {
                Some((change.uri.as_str(), ThreadRefs::of(change, content)?.parent))
            })
            .collect();
        let tellers = posts.iter().map(|(change, _)| *change).filter(|change| tells(change));
        let parents = refs::above_in_batch(tellers, |uri| answered.get(uri).copied().into_iter());
        verdicts.parents = load_parents(connection, statements, &parents).await?.into_iter().collect();
    }
    let mut to_come: HashSet<&str> = posts.iter().map(|(change, _)| change.uri.as_str()).collect();
    for change in wave {
        let Some(content) = change.content() else { continue };
        match change.collection.parts {
            PartsKind::Post if to_come.remove(change.uri.as_str()) => {
                let flags = verdicts.judge_post(change, content);
                verdicts.flags.insert(&change.uri, flags);
                let parent = ThreadRefs::of(change, content).map(|reply| reply.parent.to_owned());
                verdicts.parents.insert(change.uri.clone(), parent);
                if tells(change) {
                    let above = verdicts.walk_up(&change.uri);
                    verdicts.ancestors.insert(&change.uri, above);
                }
            }
            PartsKind::ThreadGate | PartsKind::PostGate => {
                if gated_post(change, content).is_some_and(|post| to_come.contains(post.as_str())) {
                    verdicts.too_early.insert(&change.uri);
                }
                verdicts.view.add_other(change, content);
            }
            PartsKind::Post => {}
            PartsKind::None => verdicts.view.add_other(change, content),
        }
    }
    Ok(verdicts)
}

impl Verdicts<'_> {
    fn walk_up(&self, uri: &str) -> Vec<String> {
        let mut above: Vec<String> = Vec::new();
        let mut at = uri;
        while above.len() < MOST_ANCESTORS
            && let Some(Some(parent)) = self.parents.get(at)
            && self.parents.contains_key(parent)
        {
            above.push(parent.clone());
            at = parent;
        }
        above
    }

    fn judge_post(&mut self, change: &Change, content: &Content) -> Flags {
        let mut flags = Flags::default();
        // A post can name itself.
        self.view.add_post(change, content, false);
        if let Some(reply) = ThreadRefs::of(change, content) {
            let invalid = is_invalid(reply, &self.view);
            let violates = refs::gate(reply.root, refs::THREAD_GATE).is_some_and(|(owner, gate)| {
                let gate = self.view.thread_gates.get(&gate);
                violates(&change.did, owner, reply.root, gate, &self.view)
            });
            if invalid || violates {
                flags.invalid_reply_root = Some(invalid);
                flags.violates_thread_gate = Some(violates);
            }
            if invalid {
                self.view.add_post(change, content, true);
            }
        }
        if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref())
            && let Some((owner, gate)) = refs::gate(&quoted.uri, refs::POST_GATE)
            && owner != change.did
            && self.view.post_gates.get(&gate).is_some_and(|gate| gate.forbids_quotes)
        {
            flags.violates_embedding_rules = Some(true);
        }
        flags
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
