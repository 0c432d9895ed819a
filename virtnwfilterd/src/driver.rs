//! What all filters and bindings share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;
use virt_error::{Code, Domain, Error, Result};
use virt_model::nwfilter::Filter as Document;
use virt_model::nwfilter::binding::Binding;
use virt_object::busy::Busy;
use virt_object::owner::{Class, Kind, Owner, Spec};
use virt_object::registry::{self, Entry, Registry};
use virt_object::store::Store;

use crate::force::Force;
use crate::learn::{Learner, Lease};

/// Where files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Definitions: /etc/libvirt/nwfilter.
    pub config: PathBuf,
    /// Status of bindings: /run/libvirt/nwfilter-binding.
    pub bindings: PathBuf,
    /// What was learned: /run/libvirt/nwfilter.
    pub run: PathBuf,
}

/// One filter.
pub struct Filter {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its document; replaced by a new definition.
    pub document: Entry<Arc<Document>>,
}

/// A filter in force on a card.
#[derive(Debug, Clone)]
pub struct Bound {
    /// As clients see it.
    pub binding: Binding,
    /// Addresses that were learned.
    pub leases: Vec<Lease>,
    /// Who looks for addresses; dropped, it stops.
    pub learner: Option<Arc<Learner>>,
}

/// The bindings by their cards' devices.
pub type Bindings = BTreeMap<String, Bound>;

/// The driver.
pub struct Driver {
    /// Where files are.
    pub folders: Folders,
    /// All filters.
    pub filters: Arc<Registry<Filter>>,
    /// The definitions on disk.
    pub store: Arc<Store>,
    /// All bindings, for everybody to read.
    pub bindings: Entry<Bindings>,
    /// Keeps the daemon from leaving while it learns.
    pub busy: Busy,
    /// Where learners leave what they found.
    pub runtime: tokio::runtime::Handle,
    owner: Owner<Work>,
}

/// What the one owner works on.
#[derive(Default)]
pub struct Work {
    /// The rules in force.
    pub force: Force,
}

impl Driver {
    /// A driver without filters.
    pub fn new(folders: Folders, runtime: tokio::runtime::Handle, busy: Busy) -> Arc<Self> {
        let kind = Kind::new(Domain::Nwfilter, runtime.clone(), busy.clone());
        Arc::new(Self {
            filters: Arc::new(Registry::new(registry::NWFILTER)),
            store: Arc::new(Store::new(folders.config.clone(), "virsh nwfilter-edit")),
            bindings: Entry::new(Bindings::new()),
            owner: Owner::new(Arc::new(kind), Work::default(), Arc::new(())),
            busy,
            runtime,
            folders,
        })
    }

    /// Runs a change; it ends whether or not its caller stays.
    ///
    /// # Errors
    /// The job's own, and those of [`Owner::run`].
    pub async fn change<R, F>(&self, name: &'static str, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<R>> + Send + 'static,
    {
        self.owner.run(Spec::new(name, Class::Modify), job).await
    }

    /// The document of a filter.
    pub fn document(&self, name: &str) -> Option<Arc<Document>> {
        Some(self.filters.by_name(name)?.document.load().value.clone())
    }

    /// The filter a request names: the UUID if there is one, else the name.
    ///
    /// # Errors
    /// Code 62 in the reference's words.
    pub fn find(&self, uuid: &[u8], name: &str) -> Result<Arc<Filter>> {
        let missing = |text: String| Error::new(Code::NoNwfilter, Domain::Nwfilter, text);
        if uuid.is_empty() {
            let found = self.filters.by_name(name);
            return found.ok_or_else(|| missing(format!("no nwfilter with matching name '{name}'")));
        }
        let uuid = Uuid::from_slice(uuid)
            .map_err(|_| Error::new(Code::InvalidArg, Domain::Nwfilter, "a UUID has 16 bytes"))?;
        let found = self.filters.by_uuid(&uuid);
        found.ok_or_else(|| missing(format!("no nwfilter with matching uuid '{uuid}'")))
    }

    /// The binding of a card.
    ///
    /// # Errors
    /// Code 101 in the reference's words.
    pub fn binding(&self, port: &str) -> Result<Bound> {
        let text = || format!("no nwfilter binding for port dev '{port}'");
        let missing = || Error::new(Code::NoNwfilterBinding, Domain::Nwfilter, text());
        self.bindings.load().value.get(port).cloned().ok_or_else(missing)
    }

    /// Publishes changed bindings.
    pub fn publish(&self, change: impl FnOnce(&mut Bindings)) {
        self.bindings.update(|old| {
            let mut new = old.clone();
            change(&mut new);
            new
        });
    }
}
