//! The rows beside `post`: embeds and quotes (INDEXING §4.1). Indexes used: the primary keys, `quote`'s on `subject`,
//! `feed_item`'s on `"postUri"`.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::{op_thread, refs};
use crate::collections::parts::{Image, PostParts};
use crate::collections::post_columns;
use crate::engine::aggregates::Deltas;
use crate::engine::change::{Change, Content};
use crate::engine::sql::Statements;

/// A post whose row went in.
pub(in crate::engine) type NewPost<'c> = (&'c Change, &'c Content);

/// Inserts what hangs on posts that got a row. A row in the place of a new one is what an earlier life of the post left
/// behind (the reference forgets videos): it is replaced. `order` is the place of a change in its batch.
pub(in crate::engine) async fn insert(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[NewPost<'_>],
    order: &HashMap<&str, usize>,
    deltas: &mut Deltas<'_>,
) -> Result<usize, sqlx::Error> {
    let mut rows =
        insert_images(connection, statements, "post_embed_image", posts, |parts| &parts.images).await?;
    if statements.schema().galleries() {
        rows +=
            insert_images(connection, statements, "post_embed_gallery_image", posts, |parts| &parts.gallery)
                .await?;
    }
    rows += insert_externals(connection, statements, posts).await?;
    rows += insert_videos(connection, statements, posts).await?;
    rows += insert_records(connection, statements, posts, order, deltas).await?;
    rows += op_thread::insert(connection, statements, posts).await?;
    Ok(rows)
}

fn each<'p, T>(
    posts: &'p [NewPost<'p>],
    part: impl Fn(&'p PostParts) -> Option<&'p T>,
) -> Vec<(&'p Change, &'p Content, &'p T)> {
    let found =
        posts.iter().filter_map(|(change, content)| Some((*change, *content, part(content.parts.post()?)?)));
    found.collect()
}

async fn insert_images<'p>(
    connection: &mut PgConnection,
    statements: &Statements,
    table: &str,
    posts: &'p [NewPost<'p>],
    images: impl Fn(&'p PostParts) -> &'p Vec<Image>,
) -> Result<usize, sqlx::Error> {
    let (mut uris, mut positions, mut cids, mut alts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (change, content) in posts {
        for image in content.parts.post().map(&images).into_iter().flatten() {
            uris.push(change.uri.as_str());
            positions.push(image.position.as_str());
            cids.push(image.cid.as_str());
            alts.push(image.alt.as_str());
        }
    }
    if uris.is_empty() {
        return Ok(0);
    }
    let count = uris.len();
    let sql = format!(
        r#"INSERT INTO {table} ("postUri", position, "imageCid", alt)
        SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[])
        ON CONFLICT ("postUri", position) DO UPDATE SET "imageCid" = excluded."imageCid", alt = excluded.alt"#
    );
    statements.query(&sql).bind(uris).bind(positions).bind(cids).bind(alts).execute(connection).await?;
    Ok(count)
}

async fn insert_externals(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[NewPost<'_>],
) -> Result<usize, sqlx::Error> {
    let rows = each(posts, |parts| parts.external.as_ref());
    if rows.is_empty() {
        return Ok(0);
    }
    let sql = r#"INSERT INTO post_embed_external ("postUri", uri, title, description, "thumbCid")
        SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[])
        ON CONFLICT ("postUri") DO UPDATE SET uri = excluded.uri, title = excluded.title,
            description = excluded.description, "thumbCid" = excluded."thumbCid""#;
    statements
        .query(sql)
        .bind(rows.iter().map(|(change, _, _)| change.uri.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, card)| card.uri.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, card)| card.title.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, card)| card.description.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, card)| card.thumb.as_deref()).collect::<Vec<Option<&str>>>())
        .execute(connection)
        .await?;
    Ok(rows.len())
}

async fn insert_videos(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[NewPost<'_>],
) -> Result<usize, sqlx::Error> {
    let rows = each(posts, |parts| parts.video.as_ref());
    if rows.is_empty() || !statements.schema().videos() {
        return Ok(0);
    }
    let sql = r#"INSERT INTO post_embed_video ("postUri", "videoCid", alt)
        SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[])
        ON CONFLICT ("postUri") DO UPDATE SET "videoCid" = excluded."videoCid", alt = excluded.alt"#;
    statements
        .query(sql)
        .bind(rows.iter().map(|(change, _, _)| change.uri.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, video)| video.cid.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, video)| video.alt.as_deref()).collect::<Vec<Option<&str>>>())
        .execute(connection)
        .await?;
    Ok(rows.len())
}

async fn insert_records(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[NewPost<'_>],
    order: &HashMap<&str, usize>,
    deltas: &mut Deltas<'_>,
) -> Result<usize, sqlx::Error> {
    let rows = each(posts, |parts| parts.record.as_ref());
    if rows.is_empty() {
        return Ok(0);
    }
    let sql = r#"INSERT INTO post_embed_record ("postUri", "embedUri", "embedCid")
        SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[])
        ON CONFLICT ("postUri", "embedUri") DO UPDATE SET "embedCid" = excluded."embedCid""#;
    statements
        .query(sql)
        .bind(rows.iter().map(|(change, _, _)| change.uri.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, record)| record.uri.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, record)| record.cid.as_str()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let quotes: Vec<_> = rows.iter().filter(|(_, _, record)| refs::is_post(&record.uri)).collect();
    if quotes.is_empty() {
        return Ok(rows.len());
    }
    let created_at = |change: &Change, content: &Content| -> String {
        let context = change.context(content);
        let value = content.row.as_ref().and_then(|row| row.value(post_columns::CREATED_AT, &context));
        value.unwrap_or_default().to_owned()
    };
    let sql = r#"INSERT INTO quote (uri, cid, subject, "subjectCid", "createdAt", "indexedAt")
        SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]),
            unnest($6::text[])
        ON CONFLICT DO NOTHING RETURNING uri"#;
    let inserted = statements
        .query(sql)
        .bind(quotes.iter().map(|(change, _, _)| change.uri.as_str()).collect::<Vec<_>>())
        .bind(quotes.iter().map(|(_, content, _)| content.cid.as_str()).collect::<Vec<_>>())
        .bind(quotes.iter().map(|(_, _, record)| record.uri.as_str()).collect::<Vec<_>>())
        .bind(quotes.iter().map(|(_, _, record)| record.cid.as_str()).collect::<Vec<_>>())
        .bind(quotes.iter().map(|(change, content, _)| created_at(change, content)).collect::<Vec<_>>())
        .bind(quotes.iter().map(|(change, _, _)| change.time.as_str()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let inserted = inserted.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<String>, _>>()?;
    for (change, _, record) in &quotes {
        let came = i64::from(inserted.contains(&change.uri));
        let at = order.get(change.uri.as_str()).copied().unwrap_or(0);
        deltas.quote(&record.uri, &record.cid, at, came);
    }
    Ok(rows.len() + inserted.len())
}

/// Deletes what hangs on posts whose row goes: also what others hung on them (quotes of them, items of reposts in
/// feeds), as the reference does.
pub(in crate::engine) async fn delete(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
    order: &HashMap<&str, usize>,
    deltas: &mut Deltas<'_>,
) -> Result<(), sqlx::Error> {
    if uris.is_empty() {
        return Ok(());
    }
    deltas.settle_quotes(connection, statements, uris).await?;
    let schema = statements.schema();
    let optional = [(schema.videos(), "post_embed_video"), (schema.galleries(), "post_embed_gallery_image")];
    let optional = optional.iter().filter(|(is_there, _)| *is_there).map(|(_, table)| (*table, "postUri"));
    let deletes: Vec<String> = [("feed_item", "postUri"), ("quote", "subject")]
        .into_iter()
        .chain([("post_embed_image", "postUri"), ("post_embed_external", "postUri")])
        .chain(optional)
        .map(|(table, by)| format!(r#"{table}_ AS (DELETE FROM {table} WHERE "{by}" = ANY($1))"#))
        .collect();
    let sql = format!(
        r#"WITH {} DELETE FROM post_embed_record WHERE "postUri" = ANY($1) RETURNING "postUri", "embedUri", "embedCid""#,
        deletes.join(", ")
    );
    let mut quoting: Vec<(String, String, String)> = Vec::new();
    for row in statements.query(&sql).bind(uris).fetch_all(&mut *connection).await? {
        let subject: String = row.try_get(1)?;
        if refs::is_post(&subject) {
            quoting.push((row.try_get(0)?, subject, row.try_get(2)?));
        }
    }
    if quoting.is_empty() {
        return Ok(());
    }
    let quotes: Vec<&str> = quoting.iter().map(|(uri, _, _)| uri.as_str()).collect();
    let sql = "DELETE FROM quote WHERE uri = ANY($1) RETURNING uri";
    let gone = statements.query(sql).bind(quotes).fetch_all(connection).await?;
    let gone = gone.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<String>, _>>()?;
    for (uri, subject, cid) in &quoting {
        let at = order.get(uri.as_str()).copied().unwrap_or(0);
        deltas.quote(subject, cid, at, -i64::from(gone.contains(uri)));
    }
    Ok(())
}
