//! Reads entries: from a page of the stream to what each asks of the database, or why it asks nothing. Several pages at a
//! time; they go on in the order they came in.
//!
//! While an entry is held against its lexicon it stands in memory as a tree, which may be a multiple of it: an array of many
//! small values is the worst. So trees have a budget of their own, over all streams; an entry whose tree could be larger than
//! all of it is read alone.

use std::collections::VecDeque;

use anyhow::Context as _;
use rsky_common::runtime::budget::ByteBudget;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::acks::{Death, Fate};
use crate::intake::Intake;
use crate::job::Job;
use crate::kind::Kind;
use crate::lexicon::Edition;

/// Bytes of trees at a time.
pub const TREES: u64 = 64 << 20;
/// Bytes that the tree of an entry takes for each of the entry's, at most.
pub(crate) const TREE: usize = 36;

/// An entry that has been read.
#[derive(Debug)]
pub enum Prepared<T> {
    /// It asks for this.
    Work(Job, T),
    /// It asks for nothing, or cannot be indexed.
    Settled(Job, Fate),
}

/// Reads pages until the channel is closed and empty. `trees` is the budget of [`TREES`].
///
/// # Errors
/// A reader panicked.
pub async fn prepare<K: Kind>(
    mut pages: mpsc::Receiver<Vec<Job>>,
    edition: Edition,
    trees: ByteBudget,
    next: mpsc::Sender<Vec<Prepared<K::Item>>>,
) -> anyhow::Result<()> {
    let at_a_time = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let mut reading: VecDeque<JoinHandle<Vec<Prepared<K::Item>>>> = VecDeque::new();
    let mut open = true;
    while open || !reading.is_empty() {
        tokio::select! {
            page = pages.recv(), if open && reading.len() < at_a_time => match page {
                Some(page) => {
                    let trees = trees.clone();
                    reading.push_back(tokio::spawn(async move {
                        let largest = page.iter().map(|job| job.payload.len()).max().unwrap_or(0);
                        let _charge = trees.charge(TREE.saturating_mul(largest)).await;
                        read::<K>(edition, page)
                    }));
                }
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
            Intake::Work(mut item) => {
                if job.again {
                    K::set_again(&mut item);
                }
                let what = K::what(&item);
                Prepared::Work(Job { what, ..job }, item)
            }
            Intake::Nothing(reason) => Prepared::Settled(job, Fate::Nothing(reason)),
            Intake::Rejected { reason, error } => {
                Prepared::Settled(job, Fate::Dead(Death { reason, error, attempts: 1 }))
            }
        })
        .collect()
}
