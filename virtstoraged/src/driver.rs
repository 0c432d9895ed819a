//! What all pools of the daemon share.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;
use uuid::Uuid;
use virt_api::storage::v1alpha1::watch_response::Event;
use virt_api::storage::v1alpha1::{PoolRef, WatchResponse};
use virt_error::{Code, Domain, Error, Result};
use virt_host::tool::Tools;
use virt_object::events::Journal;
use virt_object::owner::Kind;
use virt_object::registry::{self, Registry};
use virt_object::store::Store;

use crate::backend::Backends;
use crate::call::Calls;
use crate::keys::Keys;
use crate::pool::Pool;
use crate::volume::tasks::Tasks;

/// Where files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Definitions: /etc/libvirt/storage.
    pub config: PathBuf,
    /// Status files: /run/libvirt/storage.
    pub run: PathBuf,
}

/// The driver.
pub struct Driver {
    /// Where files are.
    pub folders: Folders,
    /// All pools.
    pub pools: Arc<Registry<Pool>>,
    /// What the owners share.
    pub kind: Arc<Kind>,
    /// The definitions on disk.
    pub store: Arc<Store>,
    /// What happened.
    pub journal: Arc<Journal>,
    /// Threads for what touches storage.
    pub calls: Calls,
    /// The kinds of pools.
    pub backends: Backends,
    /// Work on volumes that lasts.
    pub tasks: Arc<Tasks>,
    /// Held while a source is checked against other pools and taken.
    pub sources: tokio::sync::Mutex<()>,
}

impl Driver {
    /// A driver without pools.
    ///
    /// # Errors
    /// Code 38 when a folder cannot be made.
    pub fn new(
        folders: Folders,
        kind: Kind,
        journal: Arc<Journal>,
        tools: Arc<dyn Tools>,
        keys: Arc<dyn Keys>,
        calls: Calls,
    ) -> Result<Arc<Self>> {
        for dir in [&folders.config, &folders.run] {
            std::fs::create_dir_all(dir).map_err(|e| {
                Error::system(Domain::Storage, format!("cannot create directory {}", dir.display()), e)
            })?;
        }
        Ok(Arc::new(Self {
            pools: Arc::new(Registry::new(registry::POOL)),
            kind: Arc::new(kind),
            store: Arc::new(Store::new(folders.config.clone(), "virsh pool-edit")),
            journal,
            calls,
            backends: Backends::new(tools, keys, folders.run.clone()),
            tasks: Arc::default(),
            sources: tokio::sync::Mutex::default(),
            folders,
        }))
    }

    /// Appends an event to the journal, in its wire form without the cursor that the journal gives it.
    pub fn emit(&self, pool: PoolRef, event: Event) {
        let told = WatchResponse { cursor: None, pool: Some(pool), event: Some(event) };
        self.journal.append(told.encode_to_vec());
    }

    /// The pool a request names.
    ///
    /// # Errors
    /// Code 49 in the reference's words, code 8 when none is named.
    pub fn find(&self, wanted: Option<&PoolRef>) -> Result<Arc<Pool>> {
        let none = || Error::new(Code::InvalidArg, Domain::Storage, "no storage pool is named");
        let wanted = wanted.ok_or_else(none)?;
        if wanted.uuid.is_empty() {
            return self.by_name(&wanted.name);
        }
        let uuid = Uuid::from_slice(&wanted.uuid)
            .map_err(|_| Error::new(Code::InvalidArg, Domain::Storage, "a UUID has 16 bytes"))?;
        self.pools.by_uuid(&uuid).ok_or_else(|| match wanted.name.as_str() {
            "" => missing(format!("no storage pool with matching uuid '{uuid}'")),
            name => missing(format!("no storage pool with matching uuid '{uuid}' ({name})")),
        })
    }

    /// The pool of this name.
    ///
    /// # Errors
    /// Code 49.
    pub fn by_name(&self, name: &str) -> Result<Arc<Pool>> {
        let found = self.pools.by_name(name);
        found.ok_or_else(|| missing(format!("no storage pool with matching name '{name}'")))
    }
}

/// "Storage pool not found: ..."
pub fn missing(text: String) -> Error {
    Error::new(Code::NoStoragePool, Domain::Storage, text)
}
