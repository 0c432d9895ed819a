//! Answers that a connection keeps while its daemon's count of changes stands still.
//!
//! Programs that hold one connection (OpenStack, KubeVirt, monitors) look the same objects up again and again, and list
//! them every few seconds. What a daemon answers from its published objects alone holds until it publishes a change, and
//! it counts these in memory that can be read here ([`virt_object::changes`]): such a call is answered without asking.
//!
//! Answers belong to a connection, for daemons answer its client and nobody else. They go with the first change.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use virt_object::changes::Reader;
use virt_rpc::client::ClientSession;
use virt_wire::frame::Header;

/// Of one connection's answers, in bytes.
const CONNECTION: usize = 512 * 1024;
/// Of all connections' answers, in bytes.
const TOGETHER: usize = 4 * 1024 * 1024;
/// What an answer takes beside its bytes.
const OVERHEAD: usize = 128;

/// What all connections have kept, in bytes.
#[derive(Default)]
pub(crate) struct Room(AtomicUsize);

/// A call as far as its answer depends on it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked<'a> {
    program: u32,
    number: i32,
    arguments: Cow<'a, [u8]>,
}

/// A daemon's count before it is asked.
pub(crate) struct Before {
    session: Weak<ClientSession>,
    reader: Arc<Reader>,
    count: u64,
}

/// The answers of one connection, daemon by daemon.
pub(crate) struct Kept {
    room: Arc<Room>,
    held: Mutex<Vec<Held>>,
}

/// One daemon's answers, all from one count.
struct Held {
    before: Before,
    answers: HashMap<Asked<'static>, Bytes>,
    bytes: usize,
    room: Arc<Room>,
}

impl<'a> Asked<'a> {
    pub fn new(header: Header, arguments: &'a [u8]) -> Self {
        Self { program: header.prog, number: header.proc, arguments: Cow::Borrowed(arguments) }
    }

    pub fn to_owned(&self) -> Asked<'static> {
        let arguments = Cow::Owned(self.arguments.to_vec());
        Asked { program: self.program, number: self.number, arguments }
    }
}

impl Before {
    /// The count of a session's daemon now; nothing of a daemon that has none.
    pub async fn now(session: Arc<ClientSession>) -> Option<Self> {
        let reader = session.changes().await.ok()?;
        let count = reader.count().ok()?;
        Some(Self { session: Arc::downgrade(&session), reader, count })
    }

    /// Whether nothing has changed since.
    pub fn holds(&self) -> bool {
        self.session.upgrade().is_some_and(|session| !session.is_closed())
            && self.reader.count().is_ok_and(|now| now == self.count)
    }
}

impl Kept {
    pub fn new(room: Arc<Room>) -> Self {
        Self { room, held: Mutex::default() }
    }

    /// The answer to a call, if it still holds.
    pub fn find(&self, session: &Arc<ClientSession>, asked: &Asked<'_>) -> Option<Bytes> {
        let mut all = self.held.lock();
        let at = all.iter().position(|held| held.before.session.as_ptr() == Arc::as_ptr(session))?;
        let held = all.get(at)?;
        if held.before.holds() {
            return held.answers.get(asked).cloned();
        }
        all.swap_remove(at);
        None
    }

    /// Adds an answer; `before` is from before it was asked for. One too many, or one that is old already, is not kept.
    pub fn add(&self, before: Before, asked: &Asked<'_>, answer: &[u8]) {
        let mut all = self.held.lock();
        all.retain(|held| held.before.session.strong_count() > 0);
        let Some(held) = all.iter_mut().find(|held| held.before.session.ptr_eq(&before.session)) else {
            let mut held = Held::new(before, self.room.clone());
            held.add(asked, answer);
            all.push(held);
            return;
        };
        match held.before.count.cmp(&before.count) {
            // Another call was asked after a change that this one may not know of.
            std::cmp::Ordering::Greater => return,
            std::cmp::Ordering::Less => *held = Held::new(before, self.room.clone()),
            std::cmp::Ordering::Equal => {}
        }
        held.add(asked, answer);
    }
}

impl Held {
    fn new(before: Before, room: Arc<Room>) -> Self {
        Self { before, answers: HashMap::new(), bytes: 0, room }
    }

    fn add(&mut self, asked: &Asked<'_>, answer: &[u8]) {
        let bytes = asked.arguments.len() + answer.len() + OVERHEAD;
        if self.bytes + bytes > CONNECTION || self.answers.contains_key(asked) || !self.room.take(bytes) {
            return;
        }
        self.bytes += bytes;
        self.answers.insert(asked.to_owned(), Bytes::copy_from_slice(answer));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    fn take(&self, bytes: usize) -> bool {
        let taken = self.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = taken + bytes <= TOGETHER;
        if !fits {
            self.0.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}
