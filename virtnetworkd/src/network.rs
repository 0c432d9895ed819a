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
use virt_object::managed::{self, Managed};
use virt_object::owner::Kind;
use virt_object::registry::Registry;

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

/// A network's handle.
pub type Network = Managed<Driver>;
/// What a job of a network works on.
pub type Work = managed::Work<Driver>;

impl managed::Driver for Driver {
    type State = Published;

    fn objects(&self) -> &Arc<Registry<Network>> {
        &self.networks
    }
    fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }
    fn name(state: &Published) -> &str {
        &state.name
    }
    fn gone(&self, uuid: &Uuid, name: &str) -> Error {
        let text = format!("no network with matching uuid '{uuid}' ({name})");
        Error::new(Code::NoNetwork, Domain::Network, text)
    }
}

/// What callers and jobs of a network ask besides.
pub trait NetworkExt {
    /// How callers name it.
    fn reference(&self) -> api::NetworkRef;
}

impl NetworkExt for Network {
    fn reference(&self) -> api::NetworkRef {
        reference(self.uuid(), &self.published().value.name)
    }
}

/// How callers name a network.
pub fn reference(uuid: &Uuid, name: &str) -> api::NetworkRef {
    api::NetworkRef { uuid: Bytes::copy_from_slice(uuid.as_bytes()), name: name.to_string() }
}

/// What a job tells the world, and where its files are.
pub trait WorkExt {
    /// Tells what happened.
    fn emit(&self, event: Event);
    /// Tells a change of the life cycle (virNetworkEventLifecycleType).
    fn emit_lifecycle(&self, event: i32);
    /// The files of the network's server.
    fn files(&self) -> Files;
    /// The network's status file.
    fn status_file(&self) -> PathBuf;
}

impl WorkExt for Work {
    fn emit(&self, event: Event) {
        self.driver.emit(reference(&self.uuid, &self.published().value.name), event);
    }
    fn emit_lifecycle(&self, event: i32) {
        self.emit(Event::Lifecycle(api::LifecycleEvent { event }));
    }
    fn files(&self) -> Files {
        self.driver.files(&self.published().value.name)
    }
    fn status_file(&self) -> PathBuf {
        self.driver.folders.run.join(format!("{}.xml", self.published().value.name))
    }
}

/// "Requested operation is not valid: ..." of the network driver.
pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, Domain::Network, text)
}
