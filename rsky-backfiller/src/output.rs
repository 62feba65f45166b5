//! The one writer of the output stream: chunks of all repositories, behind the stream's gate.

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
    written: oneshot::Sender<()>,
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
    /// Writes a chunk, and `also` in the transaction with its last entry. `false`: the process ends before it is written.
    pub async fn write(&self, chunk: Chunk, also: Vec<Cmd>) -> bool {
        let (written, done) = oneshot::channel();
        self.0.send(Order { chunk, also, written }).await.is_ok() && done.await.is_ok()
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
        let (mut entries, mut letters, mut also, mut waiting) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for order in orders {
            entries.extend(order.chunk.entries);
            letters.extend(order.chunk.letters);
            also.extend(order.also);
            waiting.push(order.written);
        }
        let mut entries = entries.into_iter();
        loop {
            let permit = self.gate.pass(self.writer.link(), &self.stop).await?;
            let batch = Batch {
                field: FIELD_EVENT,
                entries: entries.by_ref().take(permit.entries).collect(),
                dead_letters: std::mem::take(&mut letters),
                also: if entries.len() == 0 { std::mem::take(&mut also) } else { Vec::new() },
                ..Batch::default()
            };
            let length = self.writer.write(&batch).await?;
            self.gate.note_length(length);
            if entries.len() == 0 {
                break;
            }
        }
        for written in waiting {
            // One that is gone has been given up by its repository.
            let _heard = written.send(()).is_ok();
        }
        Ok(())
    }
}

fn size(order: &Order) -> usize {
    let letters = order.chunk.letters.iter().map(DeadLetter::size);
    order.chunk.entries.iter().map(Entry::len).chain(letters).fold(0, usize::saturating_add)
}
