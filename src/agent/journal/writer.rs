//! The thread that writes the journal: all batches that wait become durable with one fsync.

use std::io;
use std::thread;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::agent::journal::file::JournalFile;

/// Most batches that wait for the disk; whoever has one more waits with it.
const WAITING_MAX: usize = 1024;

/// How a batch ended.
#[derive(Debug)]
pub struct Written<T> {
    /// What the batch was sent with.
    pub ticket: T,
    /// Records in the journal now, or why none of the batch counts.
    pub result: Result<u64, String>,
}

enum Batch<R, T> {
    Append { records: Vec<R>, ticket: T },
    Replace { records: Vec<R> },
}

/// The way to the thread. When it is dropped the thread writes what waits and ends.
#[derive(Debug)]
pub struct JournalWriter<R, T> {
    batches: mpsc::Sender<Batch<R, T>>,
    thread: thread::JoinHandle<()>,
}

impl<R: Serialize + Send + 'static, T: Send + 'static> JournalWriter<R, T> {
    /// Starts the thread. Answers come in the order of the batches.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn start(file: JournalFile) -> io::Result<(Self, mpsc::UnboundedReceiver<Written<T>>)> {
        let (batches, waiting) = mpsc::channel(WAITING_MAX);
        // Bounded by the batches that wait and the answers not yet taken, of which there is one each.
        let (answers, answered) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(file, waiting, &answers))?;
        Ok((Self { batches, thread }, answered))
    }

    /// Hands over a batch; waits only while `WAITING_MAX` others do.
    ///
    /// # Errors
    /// If the thread is gone.
    pub async fn append(&self, records: Vec<R>, ticket: T) -> io::Result<()> {
        let sent = self.batches.send(Batch::Append { records, ticket }).await;
        sent.map_err(|_closed| io::Error::other("the journal's thread is gone"))
    }

    /// Has the journal replaced by exactly these records, after what was appended before and before what comes after; for a
    /// caller that waits for none of its batches. Nothing is told: if it fails, the journal goes on as it is.
    pub async fn replace(&self, records: Vec<R>) {
        let sent = self.batches.send(Batch::Replace { records }).await;
        if sent.is_err() {
            tracing::debug!("the journal's thread is gone");
        }
    }

    /// Waits until everything is written and the thread has ended.
    pub fn finish(self) {
        drop(self.batches);
        if self.thread.join().is_err() {
            tracing::error!("the journal thread panicked");
        }
    }
}

fn run<R: Serialize, T>(
    mut file: JournalFile,
    mut waiting: mpsc::Receiver<Batch<R, T>>,
    answers: &mpsc::UnboundedSender<Written<T>>,
) {
    let mut next = None;
    while let Some(first) = next.take().or_else(|| waiting.blocking_recv()) {
        let (mut records, mut tickets) = match first {
            Batch::Append { records, ticket } => (records, vec![ticket]),
            Batch::Replace { records } => {
                replace(&mut file, &records);
                continue;
            }
        };
        while let Ok(more) = waiting.try_recv() {
            match more {
                Batch::Append {
                    records: more,
                    ticket,
                } => {
                    records.extend(more);
                    tickets.push(ticket);
                }
                Batch::Replace { .. } => {
                    next = Some(more);
                    break;
                }
            }
        }
        let result = file
            .append(&records)
            .map(|()| file.records())
            .map_err(|error| error.to_string());
        for ticket in tickets {
            let result = result.clone();
            if answers.send(Written { ticket, result }).is_err() {
                return;
            }
        }
    }
}

fn replace<R: Serialize>(file: &mut JournalFile, records: &[R]) {
    let from = file.records();
    match file.replace(records) {
        Ok(()) => tracing::info!(from, to = file.records(), "the journal was rewritten"),
        Err(error) => {
            tracing::warn!(%error, "the journal could not be rewritten; it is used as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::journal::file::{load, rewrite};
    use crate::agent::journal::writer::JournalWriter;

    #[tokio::test]
    async fn answers_in_order_once_it_is_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let file = rewrite::<u32>(&path, &[]).unwrap();
        let (writer, mut answers) = JournalWriter::<u32, u32>::start(file).unwrap();
        for ticket in 0..100_u32 {
            writer.append(vec![ticket, ticket], ticket).await.unwrap();
        }
        for ticket in 0..100_u32 {
            let written = answers.recv().await.unwrap();
            assert_eq!(written.ticket, ticket);
            let durable = load::<u32>(&path).unwrap().records.len();
            assert!(durable >= usize::try_from(ticket * 2 + 2).unwrap());
            assert!(written.result.unwrap() >= u64::from(ticket * 2 + 2));
        }
        writer.replace(vec![7]).await;
        writer.append(vec![8], 100).await.unwrap();
        let written = answers.recv().await.unwrap();
        assert_eq!((written.ticket, written.result), (100, Ok(2)));
        assert_eq!(load::<u32>(&path).unwrap().records, [7, 8]);
        writer.finish();
        assert!(answers.recv().await.is_none());
    }
}
