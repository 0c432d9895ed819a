//! Objects by name, UUID and id, each found in constant time; lists are cheap at 10,000 objects.
//!
//! A name or UUID is taken in two steps, because the file on disk is written between them:
//!
//! ```text
//!   claim(name, uuid) --+--> Claim::Existing(object)      same name and UUID: the caller changes that object
//!                       +--> Claim::New(Reservation)      nobody sees it yet, nobody else can take it
//!                       |        |-- commit(object) --> visible to lookups and lists
//!                       |        `-- dropped --------> free again
//!                       `--> error                        name or UUID belongs to another object
//! ```
//!
//! A rename works alike ([`Registry::rename`]). Locks are held for map operations only, never across a wait.

mod entry;
mod ids;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;
use uuid::Uuid;
use virt_error::{Code, Domain, Error, Result};

use crate::changes;

pub use entry::{Entry, Snapshot};
pub use ids::IdCounter;

/// How one kind of object is called in error texts.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// "domain", "network", "pool" ...
    pub noun: &'static str,
    /// Error domain of clashes.
    pub domain: Domain,
}

/// Domains (guests) of every hypervisor.
pub const DOMAIN: Kind = Kind { noun: "domain", domain: Domain::Domain };
/// Virtual networks.
pub const NETWORK: Kind = Kind { noun: "network", domain: Domain::Network };
/// Network filters.
pub const NWFILTER: Kind = Kind { noun: "filter", domain: Domain::Nwfilter };
/// Storage pools.
pub const POOL: Kind = Kind { noun: "pool", domain: Domain::Storage };
/// Secrets; their names say what they are used for.
pub const SECRET: Kind = Kind { noun: "secret", domain: Domain::Secret };

/// The objects of one kind. Share it as `Arc<Registry<T>>`.
pub struct Registry<T> {
    kind: Kind,
    maps: RwLock<Maps<T>>,
    /// Woken when a reservation ends, for claims that wait for the same object.
    settled: Notify,
}

struct Maps<T> {
    by_uuid: HashMap<Uuid, Slot<T>>,
    by_name: HashMap<Arc<str>, Uuid>,
    by_id: HashMap<i32, Uuid>,
    /// In the order the objects came, so that lists are stable.
    order: BTreeMap<u64, Uuid>,
    next_seq: u64,
    /// The last list handed out, until something changes.
    list: Option<Arc<[Arc<T>]>>,
}

struct Slot<T> {
    name: Arc<str>,
    id: Option<i32>,
    seq: u64,
    /// `None` while reserved.
    object: Option<Arc<T>>,
}

/// The answer to a claim that did not clash.
pub enum Claim<T> {
    /// An object of this name and UUID exists.
    Existing(Arc<T>),
    /// Name and UUID are held for the caller.
    New(Reservation<T>),
}

/// A name and UUID held for an object that is being made; dropping it frees them.
#[must_use = "a dropped reservation frees the name"]
pub struct Reservation<T> {
    registry: Arc<Registry<T>>,
    uuid: Uuid,
    done: bool,
}

/// A new name held while an object's files move; dropping it frees the new name and keeps the old.
#[must_use = "a dropped rename keeps the old name"]
pub struct Rename<T> {
    registry: Arc<Registry<T>>,
    uuid: Uuid,
    new_name: Arc<str>,
    done: bool,
}

impl<T> Registry<T> {
    /// An empty registry.
    pub fn new(kind: Kind) -> Self {
        let maps = Maps {
            by_uuid: HashMap::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            order: BTreeMap::new(),
            next_seq: 0,
            list: None,
        };
        Self { kind, maps: RwLock::new(maps), settled: Notify::new() }
    }

    /// The object of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<T>> {
        let maps = self.maps.read();
        maps.object(maps.by_name.get(name)?)
    }

    /// The object of this UUID.
    pub fn by_uuid(&self, uuid: &Uuid) -> Option<Arc<T>> {
        self.maps.read().object(uuid)
    }

    /// The running object of this id.
    pub fn by_id(&self, id: i32) -> Option<Arc<T>> {
        let maps = self.maps.read();
        maps.object(maps.by_id.get(&id)?)
    }

    /// All objects in the order they came. Unchanged since the last call: one reference count.
    pub fn list(&self) -> Arc<[Arc<T>]> {
        if let Some(list) = &self.maps.read().list {
            return list.clone();
        }
        let mut maps = self.maps.write();
        let maps = &mut *maps;
        let by_uuid = &maps.by_uuid;
        let fresh = || maps.order.values().filter_map(|u| by_uuid.get(u)?.object.clone()).collect();
        maps.list.get_or_insert_with(fresh).clone()
    }

    /// How many objects are visible.
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether no object is visible.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `name` and `uuid` for a new object, or finds the object that has both.
    ///
    /// A claim for an object that is just being made waits until that is settled. Errors (code 9, texts of the
    /// reference): the name belongs to another UUID, or the UUID to another name.
    pub async fn claim(self: &Arc<Self>, name: &str, uuid: Uuid) -> Result<Claim<T>> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if let Some(claim) = self.try_claim(name, uuid)? {
                return Ok(claim);
            }
            settled.await;
        }
    }

    /// As [`Registry::claim`], but answers `None` where that would wait.
    pub fn try_claim(self: &Arc<Self>, name: &str, uuid: Uuid) -> Result<Option<Claim<T>>> {
        let mut maps = self.maps.write();
        if let Some(slot) = maps.by_uuid.get(&uuid) {
            if maps.by_name.get(name) != Some(&uuid) {
                let text = format!("{} '{}' is already defined with uuid {uuid}", self.kind.noun, slot.name);
                return Err(Error::new(Code::OperationFailed, self.kind.domain, text));
            }
            return Ok(slot.object.clone().map(Claim::Existing));
        }
        if let Some(other) = maps.by_name.get(name) {
            let text = format!("{} '{name}' already exists with uuid {other}", self.kind.noun);
            return Err(Error::new(Code::OperationFailed, self.kind.domain, text));
        }
        let name: Arc<str> = name.into();
        let seq = maps.next_seq;
        maps.next_seq += 1;
        maps.by_name.insert(name.clone(), uuid);
        maps.by_uuid.insert(uuid, Slot { name, id: None, seq, object: None });
        Ok(Some(Claim::New(Reservation { registry: self.clone(), uuid, done: false })))
    }

    /// Adds an object in one step: for loading at start, where nothing is written in between.
    pub fn insert(self: &Arc<Self>, name: &str, uuid: Uuid, object: T) -> Result<Arc<T>> {
        match self.try_claim(name, uuid)? {
            Some(Claim::New(reservation)) => Ok(reservation.commit(object)),
            Some(Claim::Existing(_)) | None => {
                let text = format!("{} '{name}' already exists with uuid {uuid}", self.kind.noun);
                Err(Error::new(Code::OperationFailed, self.kind.domain, text))
            }
        }
    }

    /// Takes an object out; its name, UUID and id are free at once.
    pub fn remove(&self, uuid: &Uuid) -> Option<Arc<T>> {
        let mut maps = self.maps.write();
        maps.by_uuid.get(uuid)?.object.as_ref()?;
        let object = maps.take(uuid)?.object;
        drop(maps);
        changes::note();
        object
    }

    /// Says that an object runs under `id`, or no longer runs.
    pub fn set_id(&self, uuid: &Uuid, id: Option<i32>) {
        let mut maps = self.maps.write();
        let Some(slot) = maps.by_uuid.get_mut(uuid) else { return };
        let old = std::mem::replace(&mut slot.id, id);
        if let Some(old) = old {
            maps.by_id.remove(&old);
        }
        if let Some(id) = id {
            maps.by_id.insert(id, *uuid);
        }
        drop(maps);
        changes::note();
    }

    /// Holds `new_name` for an object while its files move.
    ///
    /// Errors (code 55, texts of the reference): the name is the object's own, or another object's.
    pub fn rename(self: &Arc<Self>, uuid: &Uuid, new_name: &str) -> Result<Rename<T>> {
        let mut maps = self.maps.write();
        let noun = self.kind.noun;
        let invalid = |text: String| Err(Error::new(Code::OperationInvalid, self.kind.domain, text));
        match maps.by_name.get(new_name) {
            Some(own) if own == uuid => return invalid(format!("Can't rename {noun} to itself")),
            Some(_) => return invalid(format!("{noun} with name '{new_name}' already exists")),
            None => {}
        }
        let new_name: Arc<str> = new_name.into();
        maps.by_name.insert(new_name.clone(), *uuid);
        Ok(Rename { registry: self.clone(), uuid: *uuid, new_name, done: false })
    }
}

impl<T> Maps<T> {
    fn object(&self, uuid: &Uuid) -> Option<Arc<T>> {
        self.by_uuid.get(uuid)?.object.clone()
    }

    fn take(&mut self, uuid: &Uuid) -> Option<Slot<T>> {
        let slot = self.by_uuid.remove(uuid)?;
        self.by_name.remove(&slot.name);
        if let Some(id) = slot.id {
            self.by_id.remove(&id);
        }
        self.order.remove(&slot.seq);
        self.list = None;
        Some(slot)
    }
}

impl<T> Reservation<T> {
    /// Makes the object visible.
    pub fn commit(mut self, object: T) -> Arc<T> {
        self.done = true;
        let object = Arc::new(object);
        let mut guard = self.registry.maps.write();
        let maps = &mut *guard;
        if let Some(slot) = maps.by_uuid.get_mut(&self.uuid) {
            slot.object = Some(object.clone());
            maps.order.insert(slot.seq, self.uuid);
            maps.list = None;
        }
        drop(guard);
        changes::note();
        object
    }
}

impl<T> Drop for Reservation<T> {
    fn drop(&mut self) {
        if !self.done {
            self.registry.maps.write().take(&self.uuid);
        }
        self.registry.settled.notify_waiters();
    }
}

impl<T> Rename<T> {
    /// The object is found by its new name from now on, and no longer by the old one.
    pub fn commit(mut self) {
        self.done = true;
        let mut guard = self.registry.maps.write();
        let maps = &mut *guard;
        match maps.by_uuid.get_mut(&self.uuid) {
            Some(slot) => {
                let old = std::mem::replace(&mut slot.name, self.new_name.clone());
                maps.by_name.remove(&old);
            }
            // The object went away meanwhile.
            None => drop(maps.by_name.remove(&self.new_name)),
        }
        drop(guard);
        changes::note();
    }
}

impl<T> Drop for Rename<T> {
    fn drop(&mut self) {
        if !self.done {
            self.registry.maps.write().by_name.remove(&self.new_name);
        }
    }
}

#[cfg(test)]
mod tests;
