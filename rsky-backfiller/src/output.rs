//! The one writer of the output stream: chunks of all repositories, behind the stream's gate.
//!
//! A repository is written in several transactions, and the last of them says that all of it is there. A server that comes
//! back with an older state may have lost the first ones. It cannot have lost what went over a connection before something
//! that it still has, so the chunks of a repository go over one connection; when that is gone, it begins again.

use redis::Cmd;
use rsky_common::redis::{Batch, DeadLetter, Gate, LinkError, StreamWriter};
use rsky_common::wire::Entry;
use rsky_common::wire::names::FIELD_EVENT;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::repository::Chunk;

/// Chunks that wait. Each waiting repository holds its own, so this is no bound on memory, only on wake-ups.
const WAITING: usize = 16;

struct Order {
    chunk: Chunk,
    also: Vec<Cmd>,
    /// The connection that the repository's earlier chunks went over.
    after: Option<u64>,
    put: oneshot::Sender<Option<u64>>,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in Redis, by this connection.
    Written(u64),
    /// The connection of the repository's earlier chunks is gone, and they may be, too.
    Lost,
    /// The process ends before it is written.
    Stopped,
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct Output(mpsc::Sender<Order>);

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("entries", &self.chunk.entries.len()).finish()
    }
}

impl Output {
    /// Writes a chunk, and `also` in the transaction with its last entry. `after`: what was said of the repository's chunk
    /// before it, if there was one.
    pub async fn write(&self, chunk: Chunk, also: Vec<Cmd>, after: Option<u64>) -> Put {
        let (put, done) = oneshot::channel();
        if self.0.send(Order { chunk, also, after, put }).await.is_err() {
            return Put::Stopped;
        }
        match done.await {
            Ok(Some(connection)) => Put::Written(connection),
            Ok(None) => Put::Lost,
            Err(_) => Put::Stopped,
        }
    }
}

/// The writing side.
#[derive(Debug)]
pub struct OutputTask {
    orders: mpsc::Receiver<Order>,
    writer: StreamWriter,
    gate: Gate,
    stop: CancellationToken,
    batch: usize,
    batch_bytes: usize,
}

/// Both sides. `stop`: an open gate lets through after it, a shut one is not waited for.
pub fn output(
    writer: StreamWriter,
    gate: Gate,
    stop: CancellationToken,
    batch: usize,
    batch_bytes: usize,
) -> (Output, OutputTask) {
    let (sender, orders) = mpsc::channel(WAITING);
    (Output(sender), OutputTask { orders, writer, gate, stop, batch, batch_bytes })
}

impl OutputTask {
    /// Writes until all senders are gone.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run(mut self) -> anyhow::Result<()> {
        // Connected before there is anything to write, so that readiness tells the truth.
        match self.writer.link().connection().await {
            Ok(_) => {}
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(order) => order,
                None => match self.orders.recv().await {
                    Some(order) => order,
                    None => return Ok(()),
                },
            };
            let together = self.collect(first, &mut held);
            match self.write(together).await {
                Ok(()) => {}
                // Those who wait are told by the end of their channel.
                Err(LinkError::Stopped) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Small chunks of several repositories share a transaction.
    fn collect(&mut self, first: Order, held: &mut Option<Order>) -> Vec<Order> {
        let (mut entries, mut bytes) = (first.chunk.entries.len(), size(&first));
        let mut together = vec![first];
        while entries < self.batch && bytes < self.batch_bytes {
            let Ok(next) = self.orders.try_recv() else { break };
            entries += next.chunk.entries.len();
            bytes += size(&next);
            if entries > self.batch || bytes > self.batch_bytes {
                *held = Some(next);
                break;
            }
            together.push(next);
        }
        together
    }

    async fn write(&mut self, orders: Vec<Order>) -> Result<(), LinkError> {
        self.writer.link().connection().await?;
        let connection = self.writer.link().connections();
        let (mut entries, mut letters, mut also, mut waiting) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut after = None;
        for order in orders {
            if order.after.is_some_and(|after| after != connection) {
                tell(order.put, None);
                continue;
            }
            after = after.or(order.after);
            entries.extend(order.chunk.entries);
            letters.extend(order.chunk.letters);
            also.extend(order.also);
            waiting.push(order.put);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let mut entries = entries.into_iter();
        let put = loop {
            let permit = self.gate.pass(self.writer.link(), &self.stop).await?;
            let batch = Batch {
                field: FIELD_EVENT,
                entries: entries.by_ref().take(permit.entries).collect(),
                dead_letters: std::mem::take(&mut letters),
                also: if entries.len() == 0 { std::mem::take(&mut also) } else { Vec::new() },
                ..Batch::default()
            };
            let Some(written) = self.writer.write_after(&batch, after).await? else {
                self.gate.note_unknown();
                break None;
            };
            self.gate.note_length(written.length);
            after = Some(written.connection);
            if entries.len() == 0 {
                break after;
            }
        };
        waiting.into_iter().for_each(|one| tell(one, put));
        Ok(())
    }
}

fn tell(one: oneshot::Sender<Option<u64>>, put: Option<u64>) {
    // One that is gone has been given up by its repository.
    let _heard = one.send(put).is_ok();
}

fn size(order: &Order) -> usize {
    let letters = order.chunk.letters.iter().map(DeadLetter::size);
    order.chunk.entries.iter().map(Entry::len).chain(letters).fold(0, usize::saturating_add)
}
