//! Databases with the reference schema, cloned from a template.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::super::workdir;
use super::psql::{apply, sql, sql_within};
use super::server::Postgres;
use super::session::Session;

/// Environment variable with the maintenance URL of a cluster that several test processes share.
const SHARED_VARIABLE: &str = "RSKY_TEST_POSTGRES";
/// Longest identifier of Postgres, in bytes.
const MAX_NAME: usize = 63;

/// The generations of the AppView's schema (SCHEMA-VARIANTS §1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// `migrations-ref/`: the reference.
    #[default]
    D,
    /// With the differences of `migrations-ref/variants/blacksky.sql`.
    B,
    /// With the differences of `migrations-ref/variants/upstream.sql`.
    U,
}

/// A running Postgres cluster in which databases can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    maintenance_url: String,
}

impl Cluster {
    /// The cluster with this maintenance database (`postgres://user@host:port/postgres`).
    pub fn at(maintenance_url: &str) -> Self {
        Self { maintenance_url: maintenance_url.to_owned() }
    }

    /// The cluster named by `RSKY_TEST_POSTGRES`, else one that is started at the first call and lives as long as
    /// this process.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: Mutex<Option<&'static Cluster>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = *shared {
            return Ok(cluster);
        }
        let cluster = match std::env::var(SHARED_VARIABLE) {
            Ok(url) if !url.is_empty() => Self::at(&url),
            _ => {
                // Leaked on purpose: nothing drops a static, and the kernel ends the server with us.
                let postgres: &'static Postgres = Box::leak(Box::new(Postgres::start()?));
                postgres.cluster()
            }
        };
        Ok(shared.insert(Box::leak(Box::new(cluster))))
    }

    /// URL of the maintenance database.
    pub fn url(&self) -> &str {
        &self.maintenance_url
    }

    /// A new database with the schema of `migrations-ref/`, named after `prefix`, dropped with the value.
    ///
    /// It is a clone of a template, which the first caller creates; the template's name has a hash of the SQL files,
    /// so that a changed schema gets a new one.
    pub fn create_database(&self, prefix: &str) -> Result<Database> {
        self.create_database_named(unique_name(prefix))
    }

    /// As [`Cluster::create_database`], with the schema of another generation.
    pub fn create_database_of(&self, generation: Generation, prefix: &str) -> Result<Database> {
        self.clone_template(generation, unique_name(prefix))
    }

    /// As [`Cluster::create_database`], under a name of the caller's choice: a plain lower-case identifier that no
    /// database of the cluster has.
    pub fn create_database_named(&self, name: String) -> Result<Database> {
        self.clone_template(Generation::D, name)
    }

    fn clone_template(&self, generation: Generation, name: String) -> Result<Database> {
        let files = schema_files(generation)?;
        let template = template_name(&files)?;
        let clone = format!("CREATE DATABASE {name} TEMPLATE {template}");
        if let Err(error) = sql(&self.maintenance_url, &clone) {
            if !format!("{error:#}").contains("does not exist") {
                return Err(error);
            }
            self.create_template(&template, &files)?;
            sql(&self.maintenance_url, &clone)?;
        }
        Ok(self.database(name))
    }

    /// A new database without any table, dropped with the value.
    pub fn create_empty_database(&self, prefix: &str) -> Result<Database> {
        let name = unique_name(prefix);
        sql(&self.maintenance_url, &format!("CREATE DATABASE {name}"))?;
        Ok(self.database(name))
    }

    /// Ends every other connection to the cluster.
    pub fn terminate_connections(&self) -> Result<()> {
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        sql(&self.maintenance_url, others).map(drop)
    }

    /// Creates the template under another name and renames it when complete, so that nobody clones half a schema.
    /// The lock only saves processes that start together from doing the same work.
    fn create_template(&self, template: &str, files: &[PathBuf]) -> Result<()> {
        let _one = workdir::lock("template")?;
        let exists = format!("SELECT 1 FROM pg_database WHERE datname = '{template}'");
        if !sql(&self.maintenance_url, &exists)?.is_empty() {
            return Ok(());
        }
        let draft = self.create_empty_database("rsky_draft")?;
        apply(&draft.url, files).context("apply migrations-ref")?;
        let rename = format!("ALTER DATABASE {} RENAME TO {template}", draft.name);
        match sql(&self.maintenance_url, &rename) {
            Err(error) if sql(&self.maintenance_url, &exists)?.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn database(&self, name: String) -> Database {
        let url = with_database(&self.maintenance_url, &name);
        Database { url, name, maintenance_url: self.maintenance_url.clone() }
    }
}

/// A database that is dropped, its connections ended, when this value is.
#[derive(Debug)]
pub struct Database {
    /// For clients: `postgres://user@host:port/<name>`.
    pub url: String,
    /// Its name, unique in the cluster.
    pub name: String,
    maintenance_url: String,
}

impl Database {
    /// [`sql`] in this database.
    pub fn sql(&self, statement: &str) -> Result<String> {
        sql(&self.url, statement)
    }

    /// A connection that stays open; each [`sql`] is a new one.
    ///
    /// # Errors
    /// No connection within 10 s.
    pub fn session(&self) -> Result<Session> {
        Session::open(&self.url)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Of no consequence when the cluster is down: its data goes with it.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        drop(sql_within(&self.maintenance_url, &statement, Duration::from_secs(20)));
    }
}

/// The SQL files that make a generation's schema, in order.
fn schema_files(generation: Generation) -> Result<Vec<PathBuf>> {
    let mut files = migration_files()?;
    let variants = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations-ref/variants");
    match generation {
        Generation::D => {}
        Generation::B => files.push(variants.join("blacksky.sql")),
        Generation::U => files.push(variants.join("upstream.sql")),
    }
    Ok(files)
}

/// The SQL files of the reference schema, by name.
fn migration_files() -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations-ref");
    let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    if files.is_empty() {
        bail!("no SQL files in {}", directory.display());
    }
    Ok(files)
}

fn template_name(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(format!("rsky_template_{}", hex_prefix(&hash.finalize())))
}

fn hex_prefix(hash: &[u8]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// `<prefix>_<process>_<n>_<nanoseconds>`: unique among processes, threads and containers that share a cluster.
fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let suffix = format!("_{}_{number}_{nanos}", std::process::id());
    let allowed =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let kept: String = prefix.chars().map(allowed).take(MAX_NAME.saturating_sub(suffix.len() + 1)).collect();
    // The leading letter keeps a prefix such as "3rd" a plain identifier.
    format!("t{kept}{suffix}")
}

/// The same URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base.rfind('/').filter(|at| *at >= authority).unwrap_or(base.len());
    let server = base.get(..end).unwrap_or(base);
    query.map_or_else(|| format!("{server}/{name}"), |query| format!("{server}/{name}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_database_of_a_url() {
        let replaced = |url| with_database(url, "x");
        assert_eq!(replaced("postgres://u@h:1/postgres"), "postgres://u@h:1/x");
        assert_eq!(replaced("postgres://u:p@h"), "postgres://u:p@h/x");
        assert_eq!(replaced("postgres:///a?host=/run/pg"), "postgres:///x?host=/run/pg");
    }

    #[test]
    fn names_are_unique_identifiers() {
        let first = unique_name(&format!("3rd-Test {}", "x".repeat(100)));
        assert!(first.len() <= MAX_NAME, "{first}");
        assert!(first.starts_with("t3rd_test_x"), "{first}");
        assert_ne!(unique_name("a"), unique_name("a"));
    }
}
