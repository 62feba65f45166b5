//! What the catalogue says against what the indexer needs.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{Catalogue, Column};
use super::expected::{self, OPTIONAL_TABLES};
use super::{RevMode, Schema};

/// The schema, or every difference that keeps this indexer from writing it.
pub(super) fn compare(catalogue: &Catalogue) -> Result<Schema, Vec<String>> {
    let mut differences = BTreeSet::new();
    let mut missing = BTreeSet::new();
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for expected in expected::columns() {
        let (table, column) = (expected.table, expected.column);
        known.entry(table).or_default().insert(column);
        match catalogue.tables.get(table) {
            None if OPTIONAL_TABLES.contains(&table) => drop(missing.insert((table, ""))),
            None => drop(differences.insert(format!("table \"{table}\" is missing"))),
            Some(columns) if columns.contains_key(column) => {}
            Some(_) if expected.optional => drop(missing.insert((table, column))),
            Some(_) => drop(differences.insert(format!("{table}.\"{column}\" is missing"))),
        }
    }
    for (table, columns) in &catalogue.tables {
        let known = known.get(table.as_str());
        for (name, column) in columns {
            // thread_mute is only read.
            let written = table != "thread_mute";
            let unknown = !known.is_some_and(|known| known.contains(name.as_str()));
            if written && unknown && column.not_null && !column.fills_itself {
                differences.insert(format!(
                    "{table}.\"{name}\" is unknown to this indexer and must have a value (NOT NULL without a default)"
                ));
            }
        }
    }
    if !differences.is_empty() {
        return Err(differences.into_iter().collect());
    }
    let column = |table: &str, column: &str| -> Option<&Column> { catalogue.tables.get(table)?.get(column) };
    let rev = match column("record", "rev") {
        None => RevMode::None,
        Some(rev) if rev.not_null => RevMode::NotNull,
        Some(_) => RevMode::Nullable,
    };
    // Part of the mode, not something left out.
    missing.remove(&("record", "rev"));
    // The column was never part of a migration: one of another type is another's.
    if column("label", "sig").is_some_and(|sig| sig.kind != "bytea") {
        missing.insert(("label", "sig"));
    }
    let integer_positions = column("post_embed_image", "position")
        .is_some_and(|position| matches!(position.kind.as_str(), "integer" | "bigint" | "smallint"));
    Ok(Schema { rev, missing, integer_positions, notification_trigger: catalogue.notification_trigger })
}

#[cfg(test)]
mod tests {
    use super::super::Generation;
    use super::*;

    /// A catalogue of everything that is expected, without these things.
    fn catalogue(without: &[(&str, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for expected in expected::columns() {
            let left_out =
                |thing: &(&str, &str)| thing.0 == expected.table && ["", expected.column].contains(&thing.1);
            if !without.iter().any(left_out) {
                let kind = if expected.column == "sig" { "bytea" } else { "character varying" };
                let column = Column { not_null: !expected.optional, fills_itself: false, kind: kind.into() };
                catalogue
                    .tables
                    .entry(expected.table.into())
                    .or_default()
                    .insert(expected.column.into(), column);
            }
        }
        catalogue
    }

    const FORKED: [(&str, &str); 7] = [
        ("follow", "via"),
        ("follow", "viaCid"),
        ("actor", "handleResolveTries"),
        ("like", "takedownRef"),
        ("repost", "takedownRef"),
        ("follow", "takedownRef"),
        ("actor_block", "takedownRef"),
    ];

    #[test]
    fn generations_are_known_by_their_marks() {
        assert_eq!(compare(&catalogue(&[])).unwrap().generation(), Generation::B);
        let upstream = [&FORKED[..], &[("record", "rev"), ("label", "sig")]].concat();
        let upstream = compare(&catalogue(&upstream)).unwrap();
        assert_eq!((upstream.generation(), upstream.rev()), (Generation::U, RevMode::None));
        let newer = [("post_embed_gallery_image", ""), ("op_thread_reply", ""), ("label", "sig")];
        let mut reference = catalogue(&[&FORKED[..], &newer].concat());
        reference.tables.get_mut("record").unwrap().get_mut("rev").unwrap().not_null = true;
        let reference = compare(&reference).unwrap();
        assert_eq!(reference, Schema::reference());
        assert_eq!(reference.generation(), Generation::D);
        let drifted = compare(&catalogue(&[("like", "via"), ("label", "exp")])).unwrap();
        assert_eq!(drifted.generation(), Generation::Between);
        assert!(!drifted.has_column("like", "via") && drifted.has_column("like", "viaCid"));
        assert!(!drifted.label_expiry() && drifted.label_signatures());
        assert_eq!(
            drifted.to_string(),
            "generation between, record.rev nullable, without label.exp, like.via"
        );
    }

    #[test]
    fn every_difference_is_named() {
        let mut found = catalogue(&[("like", ""), ("post", "langs"), ("op_thread_reply", "deletedAt")]);
        let column = |fills_itself| Column { not_null: true, fills_itself, kind: "text".into() };
        let follow = found.tables.get_mut("follow").unwrap();
        follow.insert("weight".into(), column(false));
        follow.insert("id".into(), column(true));
        found.tables.get_mut("thread_mute").unwrap().insert("createdAt".into(), column(false));
        assert_eq!(
            compare(&found).unwrap_err(),
            [
                "follow.\"weight\" is unknown to this indexer and must have a value (NOT NULL without a default)",
                "op_thread_reply.\"deletedAt\" is missing",
                "post.\"langs\" is missing",
                "table \"like\" is missing",
            ]
        );
    }

    #[test]
    fn types_that_matter_are_looked_at() {
        let mut found = catalogue(&[]);
        found.tables.get_mut("label").unwrap().get_mut("sig").unwrap().kind = "text".into();
        found.tables.get_mut("post_embed_image").unwrap().get_mut("position").unwrap().kind =
            "integer".into();
        let schema = compare(&found).unwrap();
        assert!(!schema.label_signatures());
        assert_eq!(schema.position_type(), "integer");
    }
}
