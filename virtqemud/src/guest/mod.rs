//! One guest: its states, its owner, its run.
//!
//! A [`Guest`] is what the registry holds. Everybody reads its [`Published`] state; changes are jobs on its [`Work`],
//! one after another; a kill reaches the process through [`Shared`] beside the running job.
//!
//! ```text
//!   api handler --> Guest::work(spec, job) --> Work (one job at a time) --> publish, event, answer
//!                   Guest::published()  <----------------------------------'
//!   watcher (monitor events, end of process) --> job on Work
//! ```

pub mod adopt;
pub mod autostart;
pub mod dump;
pub mod job;
pub mod lifecycle;
pub mod managed;
pub mod names;
pub mod plan;
pub mod save;
pub mod shared;
pub mod snapshot;
pub mod start;
pub mod state;
pub mod status;
pub mod stop;
mod transfer;
mod translate;
pub mod watch;
pub mod work;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;
use virt_api::domain::v1alpha1 as api;
use virt_error::{Code, Domain as From, Error, Result};
use virt_object::owner::{Holders, Owner, Spec};
use virt_object::registry::{Entry, Snapshot};

use crate::driver::Driver;
use shared::Shared;
pub use snapshot::{CUSTOM_MONITOR, Published};
pub use transfer::Cache;
pub use work::Work;

/// A guest as the registry holds it.
pub struct Guest {
    uuid: Uuid,
    entry: Arc<Entry<Published>>,
    owner: Owner<Work, Shared>,
}

impl Guest {
    /// A guest with this published state and no process.
    pub fn new(driver: &Arc<Driver>, uuid: Uuid, published: Published) -> Self {
        let entry = Arc::new(Entry::new(published));
        let shared = Arc::new(Shared::default());
        let work = Work::new(driver.clone(), uuid, entry.clone(), shared.clone());
        Self { uuid, entry, owner: Owner::new(driver.kind.clone(), work, shared) }
    }

    /// Its UUID.
    pub fn uuid(&self) -> &Uuid {
        &self.uuid
    }

    /// The newest state, with its generation.
    pub fn published(&self) -> Arc<Snapshot<Published>> {
        self.entry.load()
    }

    /// Its names.
    pub fn reference(&self) -> api::DomainRef {
        self.published().value.reference(&self.uuid)
    }

    /// Runs a change in its turn.
    ///
    /// Errors: code 42 when the guest was removed while the job waited. A start of such a guest would leave a QEMU that
    /// nobody knows.
    pub async fn work<R, F>(&self, spec: Spec, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        self.owner
            .run(spec, move |work| {
                if work.is_gone() {
                    let error = gone(work);
                    return Box::pin(async move { Err(error) });
                }
                // A guest that is being started tells what became of its start.
                let shared = work.run.as_ref().map(|_| work.shared.clone());
                Box::pin(async move {
                    let done = job(work).await;
                    match shared {
                        Some(shared) => shared.explain(done).await,
                        None => done,
                    }
                })
            })
            .await
    }

    /// Passes on what was asked of QEMU beside the jobs.
    ///
    /// Errors: "domain is not running" where the guest ended meanwhile.
    pub async fn told<T>(&self, answer: Result<T>) -> Result<T> {
        self.shared().explain(answer).await
    }

    /// The owner, for kills and long jobs.
    pub fn owner(&self) -> &Owner<Work, Shared> {
        &self.owner
    }

    /// What is shared with the running job: process and monitor.
    pub fn shared(&self) -> &Arc<Shared> {
        self.owner.handle()
    }

    /// Who keeps it busy.
    pub fn holders(&self) -> Holders {
        self.owner.holders()
    }
}

/// What a job answers when its guest was removed meanwhile.
fn gone(work: &Work) -> Error {
    let text = format!("no domain with matching uuid '{}' ({})", work.uuid, work.published().value.name);
    Error::new(Code::NoDomain, From::Qemu, text)
}

/// "domain is not running", from the part of libvirt that most calls answer it from.
pub fn not_running() -> Error {
    Error::new(Code::OperationInvalid, From::Domain, "domain is not running")
}

/// The same from the QEMU driver itself.
pub fn not_running_qemu() -> Error {
    Error::new(Code::OperationInvalid, From::Qemu, "domain is not running")
}
