//! Noticing clients that are gone without having closed: pings after idle time, and an end after too many unanswered.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a ping.
    Ping,
    /// The client is gone.
    Dead,
}

/// One client's pulse. It beats only after the client has asked for it (feature 10).
#[derive(Debug)]
pub(crate) struct Pulse {
    interval: Duration,
    count: u32,
    /// Pings that may still go unanswered.
    left: u32,
    last: Instant,
}

impl Pulse {
    /// Starts now; `None` when pings are turned off.
    pub fn start(limits: &Limits) -> Option<Self> {
        let (interval, count) = (limits.keepalive_interval?, limits.keepalive_count);
        Some(Self { interval, count, left: count, last: Instant::now() })
    }

    /// Anything from the client is a sign of life.
    pub fn heard(&mut self) {
        self.last = Instant::now();
        self.left = self.count;
    }

    /// When to ask [`Pulse::due`] again.
    pub fn next(&self) -> Instant {
        self.last + self.interval
    }

    /// What to do now.
    pub fn due(&mut self) -> Due {
        if Instant::now() < self.next() {
            return Due::Nothing;
        }
        self.last = Instant::now();
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Due::Ping
            }
            None => Due::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pings_after_idle_time_and_gives_up() {
        let mut pulse = Pulse::start(&Limits::default()).unwrap();
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(pulse.due(), Due::Nothing);
        pulse.heard();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(5)).await;
            assert_eq!(pulse.due(), Due::Ping);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(pulse.due(), Due::Dead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_starts_over() {
        let mut pulse = Pulse::start(&Limits { keepalive_count: 1, ..Limits::default() }).unwrap();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(5)).await;
            assert_eq!(pulse.due(), Due::Ping);
            pulse.heard();
        }
    }
}
