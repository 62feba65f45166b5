//! Accounts drawn from `actor`, at random and without reading all of it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::index_repo::session::Session;
use rsky_common::postgres::transaction::{self, Purpose};

/// Longest wait for an answer of the database.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Draws for each account that is wanted: others may be drawn twice.
const DRAWS: u32 = 10;

/// Accounts that are not known to be inactive.
const ACTIVE: &str = r#""upstreamStatus" IS NULL"#;

/// Draws accounts: fewer where there are not so many.
///
/// # Errors
/// The database does not answer, or has no accounts.
pub(super) async fn draw(session: &Session, wanted: u32, seed: Option<u64>) -> anyhow::Result<Vec<String>> {
    let mut connection = session.connect().await?;
    let clock =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let seed = seed.unwrap_or_else(clock);
    let asked = async {
        transaction::begin(&mut connection, &session.found.preamble, Purpose::Reading).await?;
        let drawn = draw_from(&mut connection, wanted, seed).await;
        transaction::end(&mut connection, drawn).await
    };
    let drawn: Vec<String> = timeout(TIMEOUT, asked).await.context("draw accounts from actor")??;
    drop(timeout(Duration::from_secs(1), connection.close()).await);
    if drawn.is_empty() {
        bail!("the table actor has no active account to draw");
    }
    Ok(drawn)
}

async fn draw_from(
    connection: &mut PgConnection,
    wanted: u32,
    seed: u64,
) -> Result<Vec<String>, sqlx::Error> {
    let few = i64::from(wanted).saturating_mul(4);
    let sql = format!(
        "SELECT did FROM (SELECT did FROM actor WHERE {ACTIVE} LIMIT $1) a ORDER BY md5(did || $2) LIMIT $3"
    );
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM (SELECT FROM actor LIMIT $1) a")
        .bind(few)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?;
    if there < few {
        return sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(few)
            .bind(seed.to_string())
            .bind(i64::from(wanted))
            .persistent(false)
            .fetch_all(connection)
            .await;
    }
    // did:plc has random letters, so the next one after random letters is a random one.
    let next = format!("SELECT did FROM actor WHERE did > $1 AND {ACTIVE} ORDER BY did LIMIT 1");
    let (mut drawn, mut state) = (BTreeSet::new(), seed);
    for _ in 0..wanted.saturating_mul(DRAWS) {
        if drawn.len() >= usize::try_from(wanted).unwrap_or(usize::MAX) {
            break;
        }
        let after = format!("did:plc:{}", letters(&mut state));
        let found: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(next.as_str()))
            .bind(after)
            .persistent(false)
            .fetch_optional(&mut *connection)
            .await?;
        drawn.extend(found);
    }
    Ok(drawn.into_iter().collect())
}

/// Some of the letters of a did:plc (base32). Nobody is to be surprised, so a small generator does (`SplitMix64`).
fn letters(state: &mut u64) -> String {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let letter = |at: u32| {
        let five = (bits >> (at * 5)) & 31;
        let letter = if five < 26 { u64::from(b'a') + five } else { u64::from(b'2') + five - 26 };
        char::from(u8::try_from(letter).unwrap_or(b'a'))
    };
    (0..8).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_a_did_and_differ() {
        let mut state = 1;
        let drawn: BTreeSet<String> = (0..100).map(|_| letters(&mut state)).collect();
        assert_eq!(drawn.len(), 100);
        let is_base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
        assert!(drawn.iter().all(|text| text.len() == 8 && text.bytes().all(is_base32)));
        assert_eq!(letters(&mut 5_u64.clone()), letters(&mut 5_u64.clone()));
    }
}
