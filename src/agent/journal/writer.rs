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

struct Batch<R, T> {
    records: Vec<R>,
    ticket: T,
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
        let batch = Batch { records, ticket };
        let sent = self.batches.send(batch).await;
        sent.map_err(|_closed| io::Error::other("the journal's thread is gone"))
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
    while let Some(first) = waiting.blocking_recv() {
        let mut records = first.records;
        let mut tickets = vec![first.ticket];
        while let Ok(more) = waiting.try_recv() {
            records.extend(more.records);
            tickets.push(more.ticket);
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
        writer.finish();
        assert!(answers.recv().await.is_none());
    }
}
