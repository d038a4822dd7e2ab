//! Who opens a session now. After a start all keystores are dialled: if all were at once, each would be done when the last one
//! is, and people who ask for something would wait for them all.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Sessions that are opened at the same time: enough to keep all cores busy and to wait for distant agents meanwhile.
const TURNS: usize = 32;

/// How long one keeps its turn: whoever is not there, or far away, goes on without it and holds up nobody.
const TURN: Duration = Duration::from_millis(250);

/// The turns, in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(TURNS))
    }
}

impl Turns {
    /// Does it when it is its turn.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let turn = self.0.acquire().await;
        let mut work = pin!(work);
        if let Ok(done) = timeout(TURN, &mut work).await {
            return done;
        }
        drop(turn);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::coordinator::reconcile::turns::*;

    #[tokio::test]
    async fn as_many_at_once_as_there_are_turns_and_the_slow_hold_up_nobody() {
        let turns = Arc::new(Turns::default());
        let slow: Vec<_> = (0..TURNS)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move { turns.take(std::future::pending::<()>()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let quick: Vec<_> = (0..TURNS * 3)
            .map(|_| {
                let (turns, now, most) = (Arc::clone(&turns), Arc::clone(&now), Arc::clone(&most));
                tokio::spawn(async move {
                    let work = async {
                        let under_way = now.fetch_add(1, Ordering::Relaxed) + 1;
                        most.fetch_max(under_way, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        now.fetch_sub(1, Ordering::Relaxed);
                    };
                    turns.take(work).await;
                })
            })
            .collect();
        for one in quick {
            one.await.unwrap();
        }
        let most = most.load(Ordering::Relaxed);
        assert!((2..=TURNS).contains(&most), "{most}");
        for one in slow {
            assert!(!one.is_finished());
            one.abort();
        }
    }
}
