//! Reads entries: from a page of the stream to what each asks of the database, or why it asks nothing. Several pages at a
//! time; they go on in the order they came in.

use std::collections::VecDeque;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::acks::{Death, Fate};
use crate::intake::Intake;
use crate::job::Job;
use crate::kind::Kind;
use crate::lexicon::Edition;

/// An entry that has been read.
#[derive(Debug)]
pub enum Prepared<T> {
    /// It asks for this.
    Work(Job, T),
    /// It asks for nothing, or cannot be indexed.
    Settled(Job, Fate),
}

/// Reads pages until the channel is closed and empty.
///
/// # Errors
/// A reader panicked.
pub async fn prepare<K: Kind>(
    mut pages: mpsc::Receiver<Vec<Job>>,
    edition: Edition,
    next: mpsc::Sender<Vec<Prepared<K::Item>>>,
) -> anyhow::Result<()> {
    let at_a_time = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let mut reading: VecDeque<JoinHandle<Vec<Prepared<K::Item>>>> = VecDeque::new();
    let mut open = true;
    while open || !reading.is_empty() {
        tokio::select! {
            page = pages.recv(), if open && reading.len() < at_a_time => match page {
                Some(page) => reading.push_back(tokio::spawn(async move { read::<K>(edition, page) })),
                None => open = false,
            },
            read = first(&mut reading), if !reading.is_empty() => {
                reading.pop_front();
                if next.send(read.context("read entries")?).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

async fn first<T>(reading: &mut VecDeque<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match reading.front_mut() {
        Some(first) => first.await,
        None => std::future::pending().await,
    }
}

fn read<K: Kind>(edition: Edition, page: Vec<Job>) -> Vec<Prepared<K::Item>> {
    page.into_iter()
        .map(|job| match job.payload.read::<K>(edition) {
            Intake::Work(item) => Prepared::Work(job, item),
            Intake::Nothing(reason) => Prepared::Settled(job, Fate::Nothing(reason)),
            Intake::Rejected { reason, error } => {
                Prepared::Settled(job, Fate::Dead(Death { reason, error, attempts: 1 }))
            }
        })
        .collect()
}
