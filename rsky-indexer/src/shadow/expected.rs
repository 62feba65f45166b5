//! The rows that ours would have of a record: by the declarations of the collections, as the engine writes them.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::collections::declaration::Column;
use crate::collections::parts::{Image, PostParts};
use crate::collections::{Collection, PartsKind, Source, post_columns};
use crate::engine::refs::is_post;
use crate::engine::{Change, Content, Statements};
use crate::schema::Schema;

/// The values of a row, in the order of a place's columns; `None` is NULL.
pub(super) type Cells = Vec<Option<String>>;

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    /// The time of the entry that made the row, which may have been an earlier one: another is told, and no difference.
    Time,
}

/// A table, and how the rows of a record are found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) table: &'static str,
    /// The column that holds the record's uri; there is an index that begins with it.
    pub(super) by: &'static str,
    pub(super) columns: Vec<(&'static str, Form)>,
    /// Whether the first column tells several rows of a record apart.
    pub(super) several: bool,
}

/// The place of a collection's own row: what it takes from the record, and not the flags that depend on others.
pub(super) fn own_place(collection: &Collection, statements: &Statements) -> Option<Place> {
    let table = collection.table?;
    let columns = own_columns(collection, statements).map(|(_, column)| {
        let form = match (column.cast, column.source) {
            (Some("jsonb"), _) => Form::Json,
            (_, Source::IndexedAt) => Form::Time,
            _ => Form::Text,
        };
        (column.name, form)
    });
    Some(Place { table: table.name, by: "uri", columns: columns.collect(), several: false })
}

/// The record's own row; `None`: it has none.
pub(super) fn own_row(change: &Change, content: &Content, statements: &Statements) -> Option<Cells> {
    let (row, context) = (content.row.as_ref()?, change.context(content));
    let columns = own_columns(change.collection, statements);
    Some(columns.map(|(at, _)| row.value(at, &context).map(str::to_owned)).collect())
}

/// The column of the record's own row that says when it was indexed, since the record does not say when it was made: a
/// profile's `createdAt`.
pub(super) fn clock_column(change: &Change, content: &Content) -> Option<&'static str> {
    let mut columns = change.collection.table?.columns.iter();
    let column = columns.find(|column| matches!(column.source, Source::CreatedAtRaw))?;
    (!says_when(&content.json)).then_some(column.name)
}

fn own_columns<'a>(
    collection: &'a Collection,
    statements: &'a Statements,
) -> impl Iterator<Item = (usize, &'static Column)> + 'a {
    let table = collection.table;
    table.into_iter().flat_map(move |table| {
        let there = statements.table(table).columns().iter();
        let columns = there.filter_map(|at| Some((*at, table.columns.get(*at)?)));
        columns.filter(|(_, column)| !matches!(column.source, Source::Uri | Source::Flag(_)))
    })
}

fn says_when(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Made {
        #[serde(rename = "createdAt")]
        created_at: Option<IgnoredAny>,
    }
    serde_json::from_str::<Made>(json).is_ok_and(|made| made.created_at.is_some())
}

/// A table that has rows beside a record's own.
pub(super) struct Beside {
    pub(super) place: Place,
    /// Which records have rows in it.
    pub(super) has: fn(&Collection) -> bool,
    pub(super) rows: fn(&Change, &Content) -> Vec<Cells>,
    /// Whether the rows go with the post that they are about (the column of its uri): then one that is missing may have gone
    /// with it.
    pub(super) goes_with: Option<usize>,
}

/// The tables beside the collections' own that a database has.
pub(super) fn beside(schema: &Schema) -> Vec<Beside> {
    let of_posts = |collection: &Collection| collection.parts == PartsKind::Post;
    let embed = |table, columns: &[&'static str], several, rows| Beside {
        place: Place { table, by: "postUri", columns: texts(columns), several },
        has: of_posts,
        rows,
        goes_with: None,
    };
    let mut all = vec![
        Beside {
            place: Place {
                table: "feed_item",
                by: "uri",
                columns: texts(&["cid", "type", "postUri", "originatorDid", "sortAt"]),
                several: false,
            },
            has: |collection| collection.feed_item.is_some(),
            rows: feed_items,
            goes_with: Some(2),
        },
        Beside {
            place: Place {
                table: "quote",
                by: "uri",
                columns: texts(&["cid", "subject", "subjectCid", "createdAt"]),
                several: false,
            },
            has: of_posts,
            rows: quotes,
            goes_with: Some(1),
        },
        embed("post_embed_image", &["position", "imageCid", "alt"], true, |_, content| {
            images(content, |parts| &parts.images)
        }),
        embed("post_embed_external", &["uri", "title", "description", "thumbCid"], false, externals),
        embed("post_embed_record", &["embedUri", "embedCid"], true, records),
        embed("post_embed_video", &["videoCid", "alt"], false, videos),
        embed("post_embed_gallery_image", &["position", "imageCid", "alt"], true, |_, content| {
            images(content, |parts| &parts.gallery)
        }),
    ];
    all.retain(|beside| schema.has_table(beside.place.table));
    all
}

fn texts(columns: &[&'static str]) -> Vec<(&'static str, Form)> {
    columns.iter().map(|column| (*column, Form::Text)).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// By the time of the entry; where the row is of an earlier one, by that ([`sort_at`]).
fn feed_items(change: &Change, content: &Content) -> Vec<Cells> {
    let (Some(item), Some(row)) = (change.collection.feed_item, content.row.as_ref()) else {
        return Vec::new();
    };
    let context = change.context(content);
    let post = row.value(item.post, &context).map(str::to_owned);
    let sort_at = Some(sort_at(change, content, &change.time));
    vec![vec![some(&content.cid), some(item.kind), post, some(&change.did), sort_at]]
}

/// What a feed item is sorted by, when its record was indexed at that time.
pub(super) fn sort_at(change: &Change, content: &Content, time: &str) -> String {
    let created = change.collection.feed_item.and_then(|item| {
        let row = content.row.as_ref()?;
        row.value(item.created_at, &change.context(content)).map(str::to_owned)
    });
    created.map_or_else(|| time.to_owned(), |created| created.min(time.to_owned()))
}

fn quotes(change: &Change, content: &Content) -> Vec<Cells> {
    let Some(record) = content.parts.post().and_then(|parts| parts.record.as_ref()) else {
        return Vec::new();
    };
    if !is_post(&record.uri) {
        return Vec::new();
    }
    let row = content.row.as_ref();
    let created = row.and_then(|row| row.value(post_columns::CREATED_AT, &change.context(content)));
    vec![vec![some(&content.cid), some(&record.uri), some(&record.cid), created.map(str::to_owned)]]
}

fn images(content: &Content, of: impl Fn(&PostParts) -> &Vec<Image>) -> Vec<Cells> {
    let images = content.parts.post().map(of).into_iter().flatten();
    images.map(|image| vec![some(&image.position), some(&image.cid), some(&image.alt)]).collect()
}

fn externals(_: &Change, content: &Content) -> Vec<Cells> {
    let card = content.parts.post().and_then(|parts| parts.external.as_ref());
    card.map(|card| vec![some(&card.uri), some(&card.title), some(&card.description), card.thumb.clone()])
        .into_iter()
        .collect()
}

fn records(_: &Change, content: &Content) -> Vec<Cells> {
    let record = content.parts.post().and_then(|parts| parts.record.as_ref());
    record.map(|record| vec![some(&record.uri), some(&record.cid)]).into_iter().collect()
}

fn videos(_: &Change, content: &Content) -> Vec<Cells> {
    let video = content.parts.post().and_then(|parts| parts.video.as_ref());
    video.map(|video| vec![some(&video.cid), video.alt.clone()]).into_iter().collect()
}
