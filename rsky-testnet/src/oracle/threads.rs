//! What came before that by which it is judged (DECISIONS 13).

use std::collections::BTreeSet;

use super::state::State;

impl State {
    /// A post has come: replies that waited for it are judged in full, and those that waited for these; quotes that were
    /// stored before it are judged by its gate.
    pub(super) fn post_came(&mut self, uri: &str) {
        let indexed = self.posts.get(uri).map(|post| post.indexed.clone()).unwrap_or_default();
        let mut mended = vec![uri.to_owned()];
        while let Some(above) = mended.pop() {
            let replies: Vec<String> = self.by_parent.get(&above).into_iter().flatten().cloned().collect();
            for reply in replies {
                // What is wrong for another reason stays as it was judged.
                if !self.posts.get(&reply).is_some_and(|post| post.invalid) || self.is_still_invalid(&reply) {
                    continue;
                }
                self.judge_reply(&reply);
                if self.posts.get(&reply).is_some_and(|post| post.told) {
                    self.tell_of_post(&reply);
                }
                mended.push(reply);
            }
        }
        let quotes: Vec<String> = self.by_quoted.get(uri).into_iter().flatten().cloned().collect();
        for quote in quotes {
            if self.posts.get(&quote).is_some_and(|post| post.indexed < indexed) {
                self.judge_quote_again(&quote);
            }
        }
    }

    /// A thread gate has come: it judges the replies that were stored before their root, and those that have overtaken it
    /// by their own time.
    pub(super) fn thread_gate_came(&mut self, gate: &str, root: &str) {
        let Some(since) = self.posts.get(root).map(|post| post.indexed.clone()) else { return };
        let time = self.typed.get(gate).map(|row| row.indexed.clone()).unwrap_or_default();
        let in_reach = self.below(root);
        let replies: Vec<String> = self.by_root.get(root).into_iter().flatten().cloned().collect();
        for reply in replies {
            if !in_reach.contains(&reply) {
                continue;
            }
            let Some(post) = self.posts.get_mut(&reply) else { continue };
            if post.invalid || (post.indexed >= since && post.indexed <= time) {
                // Unless an indexer is killed and looks at it once more.
                post.gate_came_later = true;
                continue;
            }
            if self.judge_by_gate(&reply) {
                self.notices.retain(|notice| notice.uri != reply || notice.reason != "reply");
            }
        }
    }

    /// The replies of a thread that hang together up to its root: nothing leads to those below a post that is gone.
    fn below(&self, root: &str) -> BTreeSet<String> {
        let (mut found, mut open) = (BTreeSet::new(), vec![root.to_owned()]);
        while let Some(above) = open.pop() {
            for reply in self.by_parent.get(&above).into_iter().flatten() {
                let is_of_thread = self.posts.get(reply).is_some_and(|post| post.root() == Some(root));
                if is_of_thread && found.insert(reply.clone()) {
                    open.push(reply.clone());
                }
            }
        }
        found
    }

    /// A post gate has come: it judges the quotes that were stored before their post, and those that have overtaken it.
    pub(super) fn post_gate_came(&mut self, gate: &str, quoted: &str) {
        let Some(since) = self.posts.get(quoted).map(|post| post.indexed.clone()) else { return };
        let time = self.typed.get(gate).map(|row| row.indexed.clone()).unwrap_or_default();
        let quotes: Vec<String> = self.by_quoted.get(quoted).into_iter().flatten().cloned().collect();
        for quote in quotes {
            if self.posts.get(&quote).is_some_and(|post| post.indexed < since || post.indexed > time) {
                self.judge_quote_again(&quote);
            }
        }
    }

    fn judge_quote_again(&mut self, quote: &str) {
        self.judge_quote(quote);
        if self.posts.get(quote).is_some_and(|post| post.detached) {
            self.notices.retain(|notice| notice.uri != quote || notice.reason != "quote");
        }
    }
}
