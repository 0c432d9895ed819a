//! What all connections share: the daemons behind, the limits, the clients that are not authenticated yet.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use virt_rpc::client;

use crate::kept::Room;
use crate::limits::Limits;
use crate::link::Link;
use crate::route::Daemon;

/// One proxy.
pub struct House {
    daemons: HashMap<Daemon, client::Daemon>,
    privileged: bool,
    limits: Limits,
    /// Oldest first.
    anonymous: Mutex<VecDeque<Weak<Link>>>,
    room: Arc<Room>,
}

impl House {
    /// A proxy for the daemons whose gRPC sockets are in `dir`. `privileged`: it serves the host's guests, not one
    /// user's.
    pub fn new(dir: impl Into<PathBuf>, privileged: bool, limits: Limits) -> Self {
        let dir = dir.into();
        let daemon = |d: Daemon| (d, client::Daemon::new(dir.clone(), d.name()));
        let daemons = Daemon::ALL.map(daemon).into();
        let (anonymous, room) = Default::default();
        Self { daemons, privileged, limits, anonymous, room }
    }

    /// Whether it serves the host's guests.
    pub fn privileged(&self) -> bool {
        self.privileged
    }

    /// What clients may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the daemon's socket is there: it runs or would be started by a call.
    pub fn installed(&self, daemon: Daemon) -> bool {
        self.daemon(daemon).is_some_and(client::Daemon::installed)
    }

    /// What all connections together may keep of answers.
    pub(crate) fn room(&self) -> Arc<Room> {
        self.room.clone()
    }

    pub(crate) fn daemon(&self, daemon: Daemon) -> Option<&client::Daemon> {
        self.daemons.get(&daemon)
    }

    /// Counts a client that is not authenticated; beyond the limit the oldest such client is dropped, so that clients
    /// that never speak cannot keep others out.
    pub(crate) fn admit_anonymous(&self, link: Weak<Link>) {
        let mut anonymous = self.anonymous.lock();
        anonymous.retain(|l| l.upgrade().is_some_and(|l| l.is_anonymous()));
        if anonymous.len() >= self.limits.anonymous
            && let Some(oldest) = anonymous.pop_front().and_then(|l| l.upgrade())
        {
            tracing::warn!(
                limit = self.limits.anonymous,
                "too many unauthenticated clients, dropping the oldest"
            );
            oldest.end();
        }
        anonymous.push_back(link);
    }
}
