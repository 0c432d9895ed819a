//! Counts the reasons for a daemon to stay: sessions, subscribers, jobs, timers, running guests.
//!
//! Whoever has a reason holds a [`Token`]; the main loop waits in [`Busy::idle_for`] until no token has existed for a
//! given time. A token is a counter, so taking one costs a few nanoseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How many tokens are some work.
const WORK: u64 = 256;

/// The shared counter. Clones count together.
#[derive(Clone, Default)]
pub struct Busy(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tokens: AtomicUsize,
    /// How many tokens were ever taken: tells "idle all the time" from "busy in between".
    taken: AtomicU64,
    idle: Notify,
    /// Told after each [`WORK`] tokens.
    worked: Notify,
}

/// One reason to stay; dropping it takes the reason back.
#[must_use = "the daemon stays only while the token lives"]
pub struct Token(Arc<Inner>);

impl Busy {
    /// A counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a reason to stay.
    pub fn token(&self) -> Token {
        if self.0.taken.fetch_add(1, Ordering::Relaxed) % WORK == WORK - 1 {
            self.0.worked.notify_one();
        }
        self.0.tokens.fetch_add(1, Ordering::AcqRel);
        Token(self.0.clone())
    }

    /// How many reasons exist now.
    pub fn count(&self) -> usize {
        self.0.tokens.load(Ordering::Acquire)
    }

    /// Returns when some hundred tokens were taken and then none for `quiet`: what the work needed is free now. Tokens that
    /// are held do not count. One waiter at a time.
    pub async fn quiet_after_work(&self, quiet: Duration) {
        self.0.worked.notified().await;
        let mut before = self.0.taken.load(Ordering::Acquire);
        loop {
            tokio::time::sleep(quiet).await;
            let now = self.0.taken.load(Ordering::Acquire);
            if std::mem::replace(&mut before, now) == now {
                return;
            }
        }
    }

    /// Returns when no token has existed for `quiet`, without a break.
    pub async fn idle_for(&self, quiet: Duration) {
        loop {
            let became_idle = self.0.idle.notified();
            if self.count() > 0 {
                became_idle.await;
                continue;
            }
            let before = self.0.taken.load(Ordering::Acquire);
            tokio::time::sleep(quiet).await;
            if self.count() == 0 && self.0.taken.load(Ordering::Acquire) == before {
                return;
            }
        }
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Busy(self.0.clone()).token()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.0.tokens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
            // Also for a waiter between its check and its wait.
            self.0.idle.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, advance};

    #[tokio::test(start_paused = true)]
    async fn waits_for_an_unbroken_quiet_time() {
        let busy = Busy::new();
        let start = Instant::now();
        let first = busy.token();
        let waiter = tokio::spawn({
            let busy = busy.clone();
            async move {
                busy.idle_for(Duration::from_secs(10)).await;
                Instant::now()
            }
        });
        tokio::task::yield_now().await;
        advance(Duration::from_secs(60)).await;
        assert!(!waiter.is_finished());
        drop(first);
        tokio::time::sleep(Duration::from_secs(5)).await;
        // A short visit restarts the clock.
        drop(busy.token());
        let end = waiter.await.unwrap();
        assert!(end.duration_since(start) >= Duration::from_secs(60 + 10 + 5), "{:?}", end - start);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_over_when_it_is_quiet() {
        let busy = Busy::new();
        let quiet = Duration::from_secs(10);
        let waiter = tokio::spawn({
            let busy = busy.clone();
            async move { busy.quiet_after_work(quiet).await }
        });
        (1..WORK).for_each(|_| drop(busy.token()));
        tokio::time::sleep(quiet * 3).await;
        assert!(!waiter.is_finished(), "that was not much");
        let held = busy.token();
        tokio::time::sleep(quiet / 2).await;
        drop(busy.token());
        tokio::time::sleep(quiet).await;
        assert!(!waiter.is_finished(), "it went on in between");
        tokio::time::sleep(quiet).await;
        assert!(waiter.is_finished());
        drop(held);
    }

    #[test]
    fn clones_count() {
        let busy = Busy::new();
        let a = busy.token();
        let b = a.clone();
        assert_eq!(busy.count(), 2);
        drop((a, b));
        assert_eq!(busy.count(), 0);
    }
}
