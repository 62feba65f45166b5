//! The parts that a batch is written in. Mostly it is one. What Postgres may refuse is written by itself, after everything
//! that does not depend on it, so that it spoils no other's transaction.

use std::collections::VecDeque;

use crate::kind::Effect;
use crate::order::Claims;
use crate::order::table::Table;

/// The parts, by the items' places, in the order in which they are to be written.
pub(crate) fn parts<E: Effect>(items: &[&E::Item], of_each: &[&Claims]) -> VecDeque<Vec<usize>> {
    let mut together: Vec<usize> = Vec::with_capacity(items.len());
    let mut after: Vec<Vec<usize>> = Vec::new();
    let mut claimed = Table::default();
    let mut may_join = false;
    for (at, item) in items.iter().enumerate() {
        let claims = of_each.get(at);
        let is_doubtful = E::may_be_refused(item);
        let depends = !after.is_empty() && claims.is_some_and(|claims| claimed.conflicts(claims));
        if !is_doubtful && !depends {
            together.push(at);
            continue;
        }
        if let Some(claims) = claims {
            claimed.add(claims);
        }
        match after.last_mut().filter(|_| may_join && !is_doubtful) {
            Some(part) => part.push(at),
            None => after.push(vec![at]),
        }
        may_join = !is_doubtful;
    }
    let together = Some(together).filter(|part| !part.is_empty());
    together.into_iter().chain(after).collect()
}

#[cfg(test)]
mod tests {
    use sqlx::PgConnection;

    use super::*;
    use crate::engine::{EngineError, Statements};
    use crate::order::Touch;

    struct Words;

    impl Effect for Words {
        type Item = &'static str;

        async fn apply(
            _: &mut PgConnection,
            _: &Statements,
            _: &[&Self::Item],
        ) -> Result<usize, EngineError> {
            Ok(0)
        }

        fn may_be_refused(word: &Self::Item) -> bool {
            word.starts_with('?')
        }
    }

    /// Words that end in the same letter depend on each other.
    fn taken_apart(words: &[&'static str]) -> Vec<Vec<&'static str>> {
        let claims: Vec<Claims> = words
            .iter()
            .map(|word| Claims::of(vec![(word.bytes().last().map_or(0, u64::from), Touch::Own)]))
            .collect();
        let items: Vec<&&'static str> = words.iter().collect();
        let parts = parts::<Words>(&items, &claims.iter().collect::<Vec<_>>());
        parts.into_iter().map(|part| part.into_iter().map(|at| words[at]).collect()).collect()
    }

    #[test]
    fn what_may_be_refused_stands_alone_and_what_depends_on_it_follows() {
        assert_eq!(taken_apart(&["1a", "2a", "1b"]), [vec!["1a", "2a", "1b"]]);
        assert_eq!(
            taken_apart(&["1a", "?b", "2b", "3b", "1c", "?d", "4b", "2c"]),
            [vec!["1a", "1c", "2c"], vec!["?b"], vec!["2b", "3b"], vec!["?d"], vec!["4b"]]
        );
        assert_eq!(taken_apart(&["?a"]), [vec!["?a"]]);
        assert!(taken_apart(&[]).is_empty());
    }
}
