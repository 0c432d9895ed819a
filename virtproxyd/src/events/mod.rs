//! Events: who asked for which, and what each daemon event becomes on the wire.
//!
//! ```text
//!   daemon journal --Watch(after cursor)--> pump --translate--> one message per registration --> outbox
//! ```
//!
//! A connection has one watch on each daemon it wants to hear of, started by the first registration. After a daemon's restart the
//! pump goes on at its cursor. When that is not possible the client would miss events without knowing: the pump fires
//! the close callback and ends the link.

pub(crate) mod objects;
mod pump;
pub(crate) mod translate;

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use virt_error::{Code, Domain, Error, Result};
use virt_wire::frame::OutFrame;
use virt_wire::xdr::Uuid;

use crate::api::watch::Feed;
use crate::route::Object;

pub(crate) use pump::start;

/// What a client wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interest {
    /// A domain event (virDomainEventID), told with the callback's id.
    Domain(i32),
    /// A domain event in the old form, without a callback id.
    Legacy(i32),
    /// Raw monitor events (the qemu program).
    Monitor(MonitorFilter),
    /// An event of another kind of object, by the number that kind gives it.
    Of(Object, i32),
}

/// Which raw monitor events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MonitorFilter {
    /// The event's name; `None` for all.
    pub event: Option<String>,
    /// Whether case does not matter.
    pub any_case: bool,
}

impl Interest {
    /// The old and the new form of one event are the same registration to libvirt's drivers.
    fn same_event(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Domain(a) | Self::Legacy(a), Self::Domain(b) | Self::Legacy(b)) => a == b,
            (Self::Monitor(a), Self::Monitor(b)) => a == b,
            (Self::Of(..), Self::Of(..)) => self == other,
            _ => false,
        }
    }
}

/// One registered callback.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    /// The callback id that the client knows.
    pub id: i32,
    /// What it is for.
    pub interest: Interest,
    /// Only this object; `None` for all.
    pub only: Option<Uuid>,
}

/// The registrations of one connection.
#[derive(Default)]
pub(crate) struct Events {
    inner: Mutex<Inner>,
    /// Held while the watch is being started.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Inner {
    list: Vec<Registration>,
    next: i32,
    pumps: HashMap<Object, AbortHandle>,
}

impl Events {
    /// Fails when the client has this registration already.
    pub fn check_new(&self, interest: &Interest, only: Option<Uuid>) -> Result<()> {
        let inner = self.inner.lock();
        if inner.list.iter().any(|r| r.interest.same_event(interest) && r.only == only) {
            return Err(Error::new(Code::InvalidArg, Domain::None, "event callback already tracked"));
        }
        Ok(())
    }

    /// Adds a registration and gives its callback id.
    pub fn add(&self, interest: Interest, only: Option<Uuid>) -> Result<i32> {
        self.check_new(&interest, only)?;
        let mut inner = self.inner.lock();
        let id = inner.next;
        inner.next = inner.next.wrapping_add(1).max(0);
        inner.list.push(Registration { id, interest, only });
        Ok(id)
    }

    /// Takes a registration back; false when there is none such.
    pub fn remove(&self, which: impl Fn(&Registration) -> bool) -> bool {
        let mut inner = self.inner.lock();
        let Some(at) = inner.list.iter().position(which) else { return false };
        inner.list.remove(at);
        true
    }

    /// The messages of one daemon event, in the order of registration.
    pub fn messages(&self, event: &impl Feed) -> Vec<OutFrame> {
        let inner = self.inner.lock();
        event.messages(&inner.list)
    }

    /// Whether the watch on an object's daemon runs.
    fn watching(&self, object: Object) -> bool {
        self.inner.lock().pumps.get(&object).is_some_and(|p| !p.is_finished())
    }

    fn set_pump(&self, object: Object, pump: AbortHandle) {
        self.inner.lock().pumps.insert(object, pump);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for pump in self.inner.get_mut().pumps.values() {
            pump.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_unique_and_ids_are_not_reused() {
        let events = Events::default();
        let first = events.add(Interest::Domain(0), None).unwrap();
        assert_eq!(
            events.add(Interest::Legacy(0), None).unwrap_err().message(),
            "invalid argument: event callback already tracked"
        );
        let second = events.add(Interest::Domain(0), Some([1; 16])).unwrap();
        assert!(second > first);
        assert!(events.remove(|r| r.id == first) && !events.remove(|r| r.id == first));
        assert!(events.add(Interest::Legacy(0), None).unwrap() > second);
    }
}
