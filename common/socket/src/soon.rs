//! Waiting awake for an answer that is about to come.
//!
//! Between a question to another process of this host and its answer lie some ten microseconds of work there, and, when the
//! asker has gone to sleep, as much again or more until the kernel has it running: on a virtual machine an idle processor is
//! first given back by the host. A thread that has nothing else to do looks at the socket for a moment instead.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::unix::AsyncFd;

use super::Socket;

/// How long an answer is waited for awake, from the question on. What takes longer costs this once and then sleeps.
const PATIENCE: Duration = Duration::from_micros(60);

thread_local! {
    /// Where the last question of this thread went, and when.
    static ASKED: RefCell<Option<(Weak<AsyncFd<Socket>>, Instant)>> = const { RefCell::new(None) };
}

/// A question went out.
pub(super) fn asked(socket: &Arc<AsyncFd<Socket>>) {
    ASKED.set(Some((Arc::downgrade(socket), Instant::now())));
}

/// Something came in; whatever it was, the next answer is not known to be near.
pub(super) fn answered() {
    ASKED.set(None);
}

/// Looks for the answer to this thread's last question until it is there or too late, and says whether it is there. For a
/// runtime that would sleep now.
pub fn wait_awake() -> bool {
    let Some((socket, since)) = ASKED.take() else { return false };
    let Some(socket) = socket.upgrade() else { return false };
    let mut asked = [PollFd::new(socket.get_ref(), PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    while since.elapsed() < PATIENCE {
        if !matches!(rustix::event::poll(&mut asked, Some(&at_once)), Ok(0)) {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}
