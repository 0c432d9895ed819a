//! One pool: its published state, and what its jobs tell the world.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use virt_api::storage::v1alpha1 as api;
use virt_api::storage::v1alpha1::watch_response::Event;
use virt_error::{Code, Domain, Error, Result};
use virt_model::storage::Pool as Document;
use virt_model::storage::source::Extent;
use virt_model::storage::target::Permissions;
use virt_object::managed::{self, Managed};
use virt_object::owner::{Class, Kind, Spec};
use virt_object::registry::Registry;

use crate::driver::{Driver, missing};
use crate::volume::Volumes;

/// A pool's handle.
pub type Pool = Managed<Driver>;
/// What a job of a pool works on.
pub type Work = managed::Work<Driver>;

/// Bytes of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All there is.
    pub capacity: u64,
    /// What is taken.
    pub allocation: u64,
    /// What is left.
    pub available: u64,
}

/// What everybody may read without waiting.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its name.
    pub name: Arc<str>,
    /// The persistent configuration; none for a transient pool.
    pub config: Option<Arc<Document>>,
    /// The configuration it runs with.
    pub live: Option<Arc<Document>>,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// How full it was at the last look.
    pub sizes: Sizes,
    /// What the last look found of the target's owner and mode.
    pub permissions: Option<Permissions>,
    /// Its volumes; empty while it is not active.
    pub volumes: Arc<Volumes>,
    /// It was active when the daemon ended, and its volumes were not looked at since.
    pub adopting: bool,
}

impl Published {
    /// A pool that is not active.
    pub fn inactive(name: &str, config: Option<Arc<Document>>) -> Self {
        Self {
            name: name.into(),
            config,
            live: None,
            autostart: false,
            sizes: Sizes::default(),
            permissions: None,
            volumes: Arc::default(),
            adopting: false,
        }
    }

    /// Whether it is active.
    pub fn is_active(&self) -> bool {
        self.live.is_some()
    }

    /// Whether the next start will be with another document than the one the pool runs with, or it does not run.
    pub fn is_redefined(&self) -> bool {
        let (Some(live), Some(config)) = (&self.live, &self.config) else { return true };
        let mut plain = Document::clone(live);
        // What is free is found while it runs.
        plain.source.devices.iter_mut().for_each(|device| device.free.clear());
        plain != **config
    }

    /// Notes what is free of the first device of an active pool.
    pub fn set_free(&mut self, free: Vec<Extent>) {
        let live = self.live.as_ref().and_then(|live| live.source.devices.first());
        if live.is_some_and(|device| device.free != free)
            && let Some(live) = self.live.as_mut()
            && let Some(device) = Arc::make_mut(live).source.devices.first_mut()
        {
            device.free = free;
        }
    }

    /// The document that is current: the active one, or the configuration.
    ///
    /// # Errors
    /// Code 1 for a pool without any, which is never published.
    pub fn document(&self) -> Result<&Arc<Document>> {
        let none = || Error::internal(Domain::Storage, "storage pool has no configuration");
        self.live.as_ref().or(self.config.as_ref()).ok_or_else(none)
    }

    /// The document an active pool runs with.
    ///
    /// # Errors
    /// Code 55 when it is not active.
    pub fn active(&self) -> Result<&Arc<Document>> {
        self.live.as_ref().ok_or_else(|| invalid(format!("storage pool '{}' is not active", self.name)))
    }
}

impl managed::Driver for Driver {
    type State = Published;

    fn objects(&self) -> &Arc<Registry<Pool>> {
        &self.pools
    }
    fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }
    fn name(state: &Published) -> &str {
        &state.name
    }
    fn gone(&self, uuid: &Uuid, name: &str) -> Error {
        missing(format!("no storage pool with matching uuid '{uuid}' ({name})"))
    }
}

/// What callers ask of a pool besides.
pub trait PoolExt {
    /// How callers name it.
    fn reference(&self) -> api::PoolRef;
    /// Waits until an adopted pool's volumes are known: no list is told as empty that only was not read yet.
    ///
    /// # Errors
    /// Those of the owner: code 68 for a pool that does not answer.
    fn known(&self) -> impl Future<Output = Result<()>> + Send;
}

impl PoolExt for Pool {
    fn reference(&self) -> api::PoolRef {
        reference(self.uuid(), &self.published().value.name)
    }
    async fn known(&self) -> Result<()> {
        if !self.published().value.adopting {
            return Ok(());
        }
        // The look was put in before any call is taken in.
        self.work(Spec::new("wait for a look", Class::Query), |_| Box::pin(std::future::ready(Ok(())))).await
    }
}

/// How callers name a pool.
pub fn reference(uuid: &Uuid, name: &str) -> api::PoolRef {
    api::PoolRef { uuid: Bytes::copy_from_slice(uuid.as_bytes()), name: name.to_string() }
}

/// What a job tells the world, and where its files are.
pub trait WorkExt {
    /// Tells a change of the life cycle (virStoragePoolEventLifecycleType).
    fn emit_lifecycle(&self, event: i32);
    /// Tells that the volumes were read anew.
    fn emit_refresh(&self);
    /// The pool's status file.
    fn status_file(&self) -> PathBuf;
}

impl WorkExt for Work {
    fn emit_lifecycle(&self, event: i32) {
        let told = Event::Lifecycle(api::LifecycleEvent { event });
        self.driver.emit(reference(&self.uuid, &self.published().value.name), told);
    }
    fn emit_refresh(&self) {
        let told = Event::Refresh(api::Empty {});
        self.driver.emit(reference(&self.uuid, &self.published().value.name), told);
    }
    fn status_file(&self) -> PathBuf {
        self.driver.folders.run.join(format!("{}.xml", self.published().value.name))
    }
}

/// "Requested operation is not valid: ..." of the storage driver.
pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, Domain::Storage, text)
}
