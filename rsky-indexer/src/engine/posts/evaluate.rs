//! Whether a reply is what it says and whether its author may reply (INDEXING §4.5): a function of facts.

use super::refs::ThreadRefs;
use crate::collections::parts::ThreadGate;

/// What is known of a record that a reply refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RecordFacts {
    /// Whether it is a reply, and to which root.
    pub reply_root: Option<String>,
    /// Whether it is flagged itself.
    pub invalid: bool,
    /// `"indexedAt"` of a post.
    pub post_time: Option<String>,
}

/// What the rules ask of the world.
pub(super) trait Facts {
    /// A record that exists.
    fn record(&self, uri: &str) -> Option<&RecordFacts>;
    /// Whether the root mentions somebody.
    fn mentions(&self, root: &str, did: &str) -> bool;
    /// Whether a follow exists.
    fn follows(&self, creator: &str, subject: &str) -> bool;
    /// Whether somebody is on a list.
    fn is_listed(&self, list: &str, subject: &str) -> bool;
}

/// `invalidReplyRoot`
pub(super) fn is_invalid(reply: ThreadRefs<'_>, facts: &impl Facts) -> bool {
    let Some(parent) = facts.record(reply.parent) else { return true };
    if parent.invalid {
        return true;
    }
    if reply.parent == reply.root {
        return parent.reply_root.is_some();
    }
    parent.reply_root.as_deref() != Some(reply.root)
}

/// `violatesThreadGate`
pub(super) fn violates(
    replier: &str,
    owner: &str,
    root: &str,
    gate: Option<&ThreadGate>,
    facts: &impl Facts,
) -> bool {
    if replier == owner {
        return false;
    }
    let Some(allow) = gate.and_then(|gate| gate.allow.as_ref()) else { return false };
    if allow.mentioned && facts.mentions(root, replier) {
        return false;
    }
    let may = (allow.following && facts.follows(owner, replier))
        || (allow.followers && facts.follows(replier, owner))
        || allow.lists.iter().any(|list| facts.is_listed(list, replier));
    !may
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::collections::parts::Allow;

    #[derive(Default)]
    struct World {
        records: HashMap<&'static str, RecordFacts>,
        true_ones: Vec<(&'static str, &'static str)>,
    }

    impl Facts for World {
        fn record(&self, uri: &str) -> Option<&RecordFacts> {
            self.records.get(uri)
        }
        fn mentions(&self, root: &str, did: &str) -> bool {
            self.true_ones.contains(&(leak(root), leak(did)))
        }
        fn follows(&self, creator: &str, subject: &str) -> bool {
            self.true_ones.contains(&(leak(creator), leak(subject)))
        }
        fn is_listed(&self, list: &str, subject: &str) -> bool {
            self.true_ones.contains(&(leak(list), leak(subject)))
        }
    }

    fn leak(text: &str) -> &'static str {
        Box::leak(text.to_owned().into_boxed_str())
    }

    fn fact(root: Option<&str>, invalid: bool) -> RecordFacts {
        RecordFacts { reply_root: root.map(str::to_owned), invalid, post_time: None }
    }

    #[test]
    fn replies() {
        let records = HashMap::from([
            ("root", fact(None, false)),
            ("reply", fact(Some("root"), false)),
            ("flagged", fact(Some("root"), true)),
            ("elsewhere", fact(Some("other"), false)),
        ]);
        let world = World { records, ..World::default() };
        let invalid = |root, parent| is_invalid(ThreadRefs { root, parent }, &world);
        assert!(!invalid("root", "root") && !invalid("root", "reply"));
        assert!(invalid("root", "missing") && invalid("root", "flagged") && invalid("root", "elsewhere"));
        // A reply for a root, a root that is not the one named.
        assert!(invalid("reply", "reply") && invalid("other", "root"));
    }

    #[test]
    fn gates() {
        let gate = |allow: Option<Allow>| ThreadGate { allow, hidden: Vec::new() };
        let world = World {
            true_ones: vec![
                ("root", "mentioned"),
                ("owner", "followed"),
                ("fan", "owner"),
                ("list", "member"),
            ],
            ..World::default()
        };
        let says = |replier: &str, allow: Allow| {
            violates(replier, "owner", "root", Some(&gate(Some(allow))), &world)
        };
        assert!(!violates("x", "owner", "root", None, &world));
        assert!(!violates("x", "owner", "root", Some(&gate(None)), &world));
        assert!(!says("owner", Allow::default()) && says("x", Allow::default()));
        let all = || Allow { mentioned: true, followers: true, following: true, lists: vec!["list".into()] };
        for replier in ["mentioned", "followed", "fan", "member"] {
            assert!(!says(replier, all()), "{replier}");
            assert!(says(replier, Allow::default()), "{replier}");
        }
        assert!(says("x", all()));
        assert!(says("followed", Allow { followers: true, ..Allow::default() }));
    }
}
