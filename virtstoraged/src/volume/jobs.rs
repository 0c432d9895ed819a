//! The frame of every job on volumes: mark, work beside the owner, settle.

use std::sync::Arc;

use virt_error::{Domain, Error, Result};
use virt_model::storage::Pool as Document;
use virt_model::storage::source::Extent;
use virt_object::owner::{Class, Spec};

use super::tasks::{Kind, Running};
use super::{Busy, Volume};
use crate::backend::{Backend, Cx, Room};
use crate::driver::Driver;
use crate::pool::{Pool, Sizes};

/// What a job runs on.
pub struct Job {
    /// What all pools share.
    pub driver: Arc<Driver>,
    /// Its pool.
    pub pool: Arc<Pool>,
    /// The pool's document while the job runs.
    pub document: Arc<Document>,
    /// The pool's kind.
    pub backend: Arc<dyn Backend>,
    /// How others see it.
    pub task: Arc<Running>,
}

/// How a volume is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Alone: nothing else works on it.
    Alone,
    /// With other readers.
    Shared,
}

impl Job {
    /// A job on a volume of an active pool.
    ///
    /// # Errors
    /// Code 55 when the pool is not active.
    pub fn new(driver: &Arc<Driver>, pool: &Arc<Pool>, kind: Kind, volume: &str) -> Result<Self> {
        let document = pool.published().value.active()?.clone();
        let backend = driver.backends.of(document.kind)?;
        let task = Arc::new(driver.tasks.begin(kind, document.name(), volume));
        Ok(Self { driver: driver.clone(), pool: pool.clone(), document, backend, task })
    }

    /// The same job's work in another pool.
    ///
    /// # Errors
    /// Code 55 when that pool is not active.
    pub fn beside(&self, pool: &Arc<Pool>) -> Result<Self> {
        let document = pool.published().value.active()?.clone();
        let backend = self.driver.backends.of(document.kind)?;
        Ok(Self {
            driver: self.driver.clone(),
            pool: pool.clone(),
            document,
            backend,
            task: self.task.clone(),
        })
    }

    /// Runs the job to its end even if its caller goes away. A job of its own runtime task: the owner is free meanwhile.
    ///
    /// # Errors
    /// The work's own; code 1 after a panic.
    pub async fn detached<R, F>(self, work: impl FnOnce(Self) -> F) -> Result<R>
    where
        R: Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let token = self.driver.kind.busy.token();
        let runtime = self.driver.kind.runtime.clone();
        let work = work(self);
        let done = runtime.spawn(async move {
            let done = work.await;
            drop(token);
            done
        });
        match done.await {
            Ok(done) => done,
            Err(e) => {
                Err(Error::internal(Domain::Storage, "a storage job ended unexpectedly").with_source(e))
            }
        }
    }

    /// Changes the pool's volumes in a step of its owner.
    ///
    /// # Errors
    /// What `change` refuses; nothing is changed then.
    pub async fn step<R: Send + 'static>(
        &self,
        name: &'static str,
        change: impl FnOnce(&mut Step<'_>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.pool
            .work(Spec::new(name, Class::Modify), move |work| {
                Box::pin(async move {
                    let before = work.published();
                    before.value.active()?;
                    let mut volumes = (*before.value.volumes).clone();
                    let mut sizes = before.value.sizes;
                    let mut free = None;
                    let mut step = Step { volumes: &mut volumes, sizes: &mut sizes, free: &mut free };
                    let done = change(&mut step)?;
                    work.publish(|p| {
                        p.volumes = Arc::new(volumes);
                        p.sizes = sizes;
                        if let Some(free) = free {
                            p.set_free(free);
                        }
                    });
                    Ok(done)
                })
            })
            .await
    }

    /// Marks a volume as held.
    ///
    /// # Errors
    /// Code 50 when it is not there, code 55 when it is busy.
    pub async fn hold(&self, name: String, hold: Hold) -> Result<Arc<Volume>> {
        self.step("hold", move |step| {
            let volume = step.volumes.find(&name)?.clone();
            let mut held = (*volume).clone();
            match hold {
                Hold::Alone => {
                    volume.check_free()?;
                    held.busy = Busy::Building;
                }
                Hold::Shared => {
                    volume.check_whole()?;
                    let others = if let Busy::Used(n) = volume.busy { n } else { 0 };
                    held.busy = Busy::Used(others.saturating_add(1));
                }
            }
            step.volumes.put(held);
            Ok(volume)
        })
        .await
    }

    /// Takes the mark back, and puts what a new look found in its place.
    ///
    /// # Errors
    /// Those of the owner.
    pub async fn release(
        &self,
        name: String,
        hold: Hold,
        now: Option<Volume>,
        sizes: Option<Sizes>,
    ) -> Result<()> {
        self.step("release", move |step| {
            if let Some(sizes) = sizes {
                *step.sizes = sizes;
            }
            let Some(old) = step.volumes.get(&name).cloned() else { return Ok(()) };
            let busy = match (hold, old.busy) {
                (Hold::Shared, Busy::Used(n)) if n > 1 => Busy::Used(n - 1),
                _ => Busy::Free,
            };
            let mut volume = now.unwrap_or_else(|| (*old).clone());
            volume.busy = busy;
            step.volumes.put(volume);
            Ok(())
        })
        .await
    }

    /// Calls the backend for work that may last.
    ///
    /// # Errors
    /// The work's own.
    pub async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Backend, &Document, &Cx<'_>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (backend, document) = (self.backend.clone(), self.document.clone());
        let (tools, keys) = (self.driver.backends.tools().clone(), self.driver.backends.keys().clone());
        let progress = self.task.progress.clone();
        self.driver
            .calls
            .long(self.task.cancel.clone(), move |cancel| {
                work(&*backend, &document, &Cx { progress, ..Cx::new(&*tools, &*keys, cancel) })
            })
            .await
    }
}

/// What a step may change.
pub struct Step<'a> {
    /// The pool's volumes.
    pub volumes: &'a mut super::Volumes,
    /// The pool's sizes.
    pub sizes: &'a mut Sizes,
    /// What is free of its first device, when that was looked at.
    pub free: &'a mut Option<Vec<Extent>>,
}

impl Step<'_> {
    /// Takes in how full the pool is after a change of a volume.
    pub fn has_room(&mut self, room: Room) {
        *self.sizes = room.sizes.unwrap_or(*self.sizes);
        *self.free = Some(room.free);
    }
}
