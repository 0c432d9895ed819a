//! A named object as every simple driver has it (networks, pools ...): its published state, its owner, and the rule that
//! a job whose object went away meanwhile does not run.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;
use virt_error::{Error, Result};

use crate::owner::{Kind, Owner, Spec};
use crate::registry::{Entry, Registry, Snapshot};

/// What all objects of one daemon share.
pub trait Driver: Send + Sync + Sized + 'static {
    /// What everybody may read of one object without waiting.
    type State: Clone + Send + Sync + 'static;

    /// All objects.
    fn objects(&self) -> &Arc<Registry<Managed<Self>>>;
    /// What the owners share.
    fn kind(&self) -> &Arc<Kind>;
    /// The name in a state.
    fn name(state: &Self::State) -> &str;
    /// The answer about an object that is gone.
    fn gone(&self, uuid: &Uuid, name: &str) -> Error;
}

/// One object's handle. Reads take the snapshot; changes go through the owner.
pub struct Managed<D: Driver> {
    uuid: Uuid,
    entry: Arc<Entry<D::State>>,
    owner: Owner<Work<D>>,
}

/// What a job of an object works on.
pub struct Work<D: Driver> {
    /// What all objects share.
    pub driver: Arc<D>,
    /// Which object.
    pub uuid: Uuid,
    entry: Arc<Entry<D::State>>,
}

impl<D: Driver> Managed<D> {
    /// An object with an idle owner.
    pub fn new(driver: &Arc<D>, uuid: Uuid, state: D::State) -> Self {
        let entry = Arc::new(Entry::new(state));
        let work = Work { driver: driver.clone(), uuid, entry: entry.clone() };
        Self { uuid, entry, owner: Owner::new(driver.kind().clone(), work, Arc::new(())) }
    }

    /// Its UUID.
    pub fn uuid(&self) -> &Uuid {
        &self.uuid
    }

    /// Its newest state.
    pub fn published(&self) -> Arc<Snapshot<D::State>> {
        self.entry.load()
    }

    /// Runs a job on the object; it fails when the object was removed before its turn came.
    ///
    /// # Errors
    /// [`Driver::gone`], the job's own, and those of [`Owner::run`].
    pub async fn work<R, F>(&self, spec: Spec, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Work<D>) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        self.owner
            .run(spec, move |work| {
                if work.is_gone() {
                    let error = work.driver.gone(&work.uuid, D::name(&work.published().value));
                    return Box::pin(std::future::ready(Err(error)));
                }
                job(work)
            })
            .await
    }
}

impl<D: Driver> Work<D> {
    /// The newest state.
    pub fn published(&self) -> Arc<Snapshot<D::State>> {
        self.entry.load()
    }

    /// Publishes a changed state.
    pub fn publish(&self, change: impl FnOnce(&mut D::State)) {
        self.entry.update(|old| {
            let mut new = old.clone();
            change(&mut new);
            new
        });
    }

    /// Takes the object out of the daemon.
    pub fn remove(&self) {
        self.driver.objects().remove(&self.uuid);
    }

    /// Whether the object was removed, or another one took its place.
    pub fn is_gone(&self) -> bool {
        let found = self.driver.objects().by_uuid(&self.uuid);
        !found.is_some_and(|o| Arc::ptr_eq(&o.entry, &self.entry))
    }
}
