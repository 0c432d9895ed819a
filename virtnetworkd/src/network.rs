//! One network: its published state and its owner.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use virt_api::network::v1alpha1 as api;
use virt_api::network::v1alpha1::watch_response::Event;
use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network as Document;
use virt_model::network::port::NetworkPort;
use virt_object::owner::{Owner, Spec};
use virt_object::registry::{Entry, Snapshot};

use futures_util::future::BoxFuture;

use crate::dnsmasq::Files;
use crate::driver::Driver;

/// What everybody may read without waiting.
#[derive(Debug, Clone)]
pub struct Published {
    /// Its name.
    pub name: Arc<str>,
    /// The persistent configuration; none for a transient network.
    pub config: Option<Arc<Document>>,
    /// The configuration it runs with.
    pub live: Option<Arc<Document>>,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// The places that guests' cards hold.
    pub ports: Arc<Vec<NetworkPort>>,
}

impl Published {
    /// A network that does not run.
    pub fn inactive(name: &str, config: Option<Arc<Document>>) -> Self {
        Self { name: name.into(), config, live: None, autostart: false, ports: Arc::default() }
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.live.is_some()
    }

    /// The document that is current: the running one, or the configuration.
    ///
    /// # Errors
    /// Code 1 for a network without any, which is never published.
    pub fn document(&self) -> Result<&Arc<Document>> {
        let none = || Error::internal(Domain::Network, "network has no configuration");
        self.live.as_ref().or(self.config.as_ref()).ok_or_else(none)
    }
}

/// A network's handle. Reads take the snapshot; changes go through the owner.
pub struct Network {
    uuid: Uuid,
    entry: Arc<Entry<Published>>,
    owner: Owner<Work>,
}

/// What a job of a network works on.
pub struct Work {
    /// What all networks share.
    pub driver: Arc<Driver>,
    /// Which network.
    pub uuid: Uuid,
    entry: Arc<Entry<Published>>,
}

impl Network {
    /// A network with an idle owner.
    pub fn new(driver: &Arc<Driver>, uuid: Uuid, published: Published) -> Self {
        let entry = Arc::new(Entry::new(published));
        let work = Work { driver: driver.clone(), uuid, entry: entry.clone() };
        Self { uuid, entry, owner: Owner::new(driver.kind.clone(), work, Arc::new(())) }
    }

    /// Its UUID.
    pub fn uuid(&self) -> &Uuid {
        &self.uuid
    }

    /// Its newest state.
    pub fn published(&self) -> Arc<Snapshot<Published>> {
        self.entry.load()
    }

    /// How callers name it.
    pub fn reference(&self) -> api::NetworkRef {
        reference(&self.uuid, &self.published().value.name)
    }

    /// Runs a job on the network; it fails when the network was removed before its turn came.
    ///
    /// # Errors
    /// Code 43 when it is gone, the job's own, and those of [`Owner::run`].
    pub async fn work<R, F>(&self, spec: Spec, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        self.owner
            .run(spec, move |work| {
                if work.is_gone() {
                    let error = work.gone();
                    return Box::pin(std::future::ready(Err(error)));
                }
                job(work)
            })
            .await
    }
}

/// How callers name a network.
pub fn reference(uuid: &Uuid, name: &str) -> api::NetworkRef {
    api::NetworkRef { uuid: Bytes::copy_from_slice(uuid.as_bytes()), name: name.to_string() }
}

impl Work {
    /// The newest state.
    pub fn published(&self) -> Arc<Snapshot<Published>> {
        self.entry.load()
    }

    /// Publishes a changed state.
    pub fn publish(&self, change: impl FnOnce(&mut Published)) {
        self.entry.update(|old| {
            let mut new = old.clone();
            change(&mut new);
            new
        });
    }

    /// Tells what happened.
    pub fn emit(&self, event: Event) {
        self.driver.emit(reference(&self.uuid, &self.published().value.name), event);
    }

    /// Tells a change of the life cycle (virNetworkEventLifecycleType).
    pub fn emit_lifecycle(&self, event: i32) {
        self.emit(Event::Lifecycle(api::LifecycleEvent { event }));
    }

    /// The files of the network's server.
    pub fn files(&self) -> Files {
        self.driver.files(&self.published().value.name)
    }

    /// The network's status file.
    pub fn status_file(&self) -> PathBuf {
        self.driver.folders.run.join(format!("{}.xml", self.published().value.name))
    }

    fn is_gone(&self) -> bool {
        let found = self.driver.networks.by_uuid(&self.uuid);
        !found.is_some_and(|n| Arc::ptr_eq(&n.entry, &self.entry))
    }

    fn gone(&self) -> Error {
        let text = format!("no network with matching uuid '{}' ({})", self.uuid, self.published().value.name);
        Error::new(Code::NoNetwork, Domain::Network, text)
    }
}

/// "Requested operation is not valid: ..." of the network driver.
pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, Domain::Network, text)
}
