//! What all interfaces share: the definitions, and the one owner that changes them. They end up in one set of files, so
//! changes run one after another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use virt_error::{Code, Domain, Error, Result};
use virt_host::link::{self, Link};
use virt_model::Mac;
use virt_model::interface::Interface;
use virt_object::blocking;
use virt_object::busy::Busy;
use virt_object::owner::{Class, Kind, Owner, Spec};
use virt_object::registry::Entry;
use virt_object::store::Store;

use crate::backend::Backend;
use crate::live;

/// Where files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Definitions: /etc/libvirt/interface.
    pub config: PathBuf,
    /// The definitions at the begin of a change that may be taken back.
    pub transaction: PathBuf,
}

/// The definitions by name.
pub type Definitions = BTreeMap<String, Arc<Interface>>;

/// The driver.
pub struct Driver {
    /// Where files are.
    pub folders: Folders,
    /// The definitions on disk.
    pub store: Arc<Store>,
    /// All definitions, for everybody to read.
    pub definitions: Entry<Definitions>,
    /// The host's tool.
    pub backend: Backend,
    owner: Owner<()>,
}

/// An interface as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Whether it is up.
    pub active: bool,
}

impl Driver {
    /// A driver without definitions.
    pub fn new(folders: Folders, backend: Backend, runtime: tokio::runtime::Handle, busy: Busy) -> Arc<Self> {
        let kind = Kind::new(Domain::Interface, runtime, busy);
        Arc::new(Self {
            store: Arc::new(Store::new(folders.config.clone(), "virsh iface-edit")),
            definitions: Entry::new(Definitions::new()),
            owner: Owner::new(Arc::new(kind), (), Arc::new(())),
            backend,
            folders,
        })
    }

    /// Reads the definitions. A file that cannot be used is logged and left alone. Blocking.
    ///
    /// # Errors
    /// Code 38 when the folder cannot be read.
    pub fn load(&self) -> Result<usize> {
        let mut found = Definitions::new();
        let count = self.store.load_each(|loaded| {
            let of = checked(&loaded.text?)?;
            if of.name != loaded.name {
                let text = format!(
                    "interface config filename '{}.xml' does not match name '{}'",
                    loaded.name, of.name
                );
                return Err(Error::internal(Domain::Interface, text));
            }
            found.insert(loaded.name, Arc::new(of));
            Ok(())
        })?;
        self.definitions.publish(found);
        Ok(count)
    }

    /// Runs a change; it ends whether or not its caller stays.
    ///
    /// # Errors
    /// The job's own, and those of [`Owner::run`].
    pub async fn change<R, F>(&self, name: &'static str, job: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce() -> BoxFuture<'static, Result<R>> + Send + 'static,
    {
        self.owner.run(Spec::new(name, Class::Modify), move |()| job()).await
    }

    /// All interfaces, those that are only configured too.
    ///
    /// # Errors
    /// Code 38 with the kernel's reason.
    pub async fn rows(&self) -> Result<Vec<Row>> {
        let links = blocking::run(live::all).await?;
        let row = |l: &Link| Row { name: l.name.clone(), mac: l.mac.map(Mac), active: l.up };
        let mut rows: Vec<Row> = links.iter().map(row).collect();
        for (name, of) in &self.definitions.load().value {
            if !links.iter().any(|l| l.name == *name) {
                rows.push(Row { name: name.clone(), mac: of.mac, active: false });
            }
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// Code 57 when there is none.
    pub async fn by_name(&self, name: &str) -> Result<Row> {
        let found = self.rows().await?.into_iter().find(|r| r.name == name);
        found.ok_or_else(|| missing(format!("couldn't find interface named '{name}'")))
    }

    /// The interface of this hardware address.
    ///
    /// # Errors
    /// Code 57 when there is none, code 59 when there are several.
    pub async fn by_mac(&self, text: &str) -> Result<Row> {
        let wanted = <Mac as virt_xml::Value>::parse(text).ok();
        let mut found = self.rows().await?.into_iter().filter(|r| wanted.is_some() && r.mac == wanted);
        match (found.next(), found.next()) {
            (None, _) => Err(missing(format!("couldn't find interface with MAC address '{text}'"))),
            (Some(row), None) => Ok(row),
            (Some(_), Some(_)) => {
                let text = format!("the MAC address '{text}' matches multiple interfaces");
                Err(Error::new(Code::MultipleInterfaces, Domain::Interface, text))
            }
        }
    }

    /// The document of an interface: the configured one, or what runs.
    ///
    /// # Errors
    /// Code 57 when there is none.
    pub async fn document(&self, name: &str, inactive: bool) -> Result<Interface> {
        let defined = self.definitions.load().value.get(name).cloned();
        if let Some(of) = defined.as_ref().filter(|_| inactive) {
            return Ok((**of).clone());
        }
        let wanted = name.to_string();
        let live = blocking::run(move || {
            let links = live::all()?;
            Ok(links.iter().find(|l| l.name == wanted).map(|l| live::document(l, &links)))
        });
        let defined = defined.map(|d| (*d).clone());
        live.await?.or(defined).ok_or_else(|| missing(format!("couldn't find interface named '{name}'")))
    }

    /// Makes or replaces a definition.
    ///
    /// # Errors
    /// What the document refuses, code 38 when a file cannot be written; nothing is changed then.
    pub async fn define(self: &Arc<Self>, xml: String) -> Result<Row> {
        let of = blocking::run(move || checked(&xml)).await?;
        let (this, name) = (self.clone(), of.name.clone());
        let job = move || -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                let mut next = this.definitions.load().value.clone();
                next.insert(of.name.clone(), Arc::new(of));
                this.put(next).await
            })
        };
        self.change("define", job).await?;
        self.by_name(&name).await
    }

    /// Removes a definition; what runs goes on.
    ///
    /// # Errors
    /// Code 57 when there is no such interface, code 55 when it is not configured here.
    pub async fn undefine(self: &Arc<Self>, name: String) -> Result<()> {
        self.by_name(&name).await?;
        let this = self.clone();
        let job = move || -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                let mut next = this.definitions.load().value.clone();
                if next.remove(&name).is_none() {
                    return Err(invalid(format!("interface '{name}' is not configured by libvirt")));
                }
                this.put(next).await
            })
        };
        self.change("undefine", job).await
    }

    /// Makes these the definitions: on disk, in the tool's files, published. A failure puts the old ones back.
    pub(crate) async fn put(&self, next: Definitions) -> Result<()> {
        let old = self.definitions.load().value.clone();
        let done = match self.save(&old, &next).await {
            Ok(()) => self.backend.write(plain(&next)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            let back = match self.save(&next, &old).await {
                Ok(()) => self.backend.write(plain(&old)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = back {
                tracing::error!(?error, "the old configuration could not be put back");
            }
            return Err(error);
        }
        self.definitions.publish(next);
        Ok(())
    }

    async fn save(&self, old: &Definitions, next: &Definitions) -> Result<()> {
        let (store, old, next) = (self.store.clone(), old.clone(), next.clone());
        blocking::run(move || {
            for (name, of) in next.iter().filter(|(name, of)| old.get(*name) != Some(of)) {
                store.save(name, &of.format())?;
            }
            old.keys().filter(|name| !next.contains_key(*name)).try_for_each(|name| store.remove(name))
        })
        .await
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// Code 57 when there is none, code 55 when it is up, what the tool or the kernel says.
    pub async fn start(self: &Arc<Self>, name: String) -> Result<()> {
        let this = self.clone();
        let job = move || -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                if this.by_name(&name).await?.active {
                    return Err(invalid("interface is already running"));
                }
                let of = match this.definitions.load().value.get(&name) {
                    Some(of) => (**of).clone(),
                    // Nothing is known but that it is there: it is switched on.
                    None => Interface { name, ..Interface::default() },
                };
                this.backend.up(of).await
            })
        };
        self.change("create", job).await
    }

    /// Takes an interface down.
    ///
    /// # Errors
    /// Code 57 when there is none, code 55 when it is down, what the tool or the kernel says.
    pub async fn destroy(self: &Arc<Self>, name: String) -> Result<()> {
        let this = self.clone();
        let job = move || -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                if !this.by_name(&name).await?.active {
                    return Err(invalid("interface is not running"));
                }
                this.backend.down(name).await
            })
        };
        self.change("destroy", job).await
    }
}

fn plain(all: &Definitions) -> Vec<Interface> {
    all.values().map(|of| (**of).clone()).collect()
}

fn missing(text: String) -> Error {
    Error::new(Code::NoInterface, Domain::Interface, text)
}

/// "Requested operation is not valid: ..." of the interface driver.
pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::OperationInvalid, Domain::Interface, text)
}

/// A document whose names can stand in files and go to tools.
///
/// # Errors
/// What the document refuses, code 27 for a name that no interface can have.
pub fn checked(xml: &str) -> Result<Interface> {
    let of = Interface::parse(xml)?;
    names(&of)?;
    Ok(of)
}

fn names(of: &Interface) -> Result<()> {
    let below = of.vlan.as_ref().and_then(|v| v.below.as_deref());
    for name in [Some(of.name.as_str()), below].into_iter().flatten() {
        // Stricter than the kernel: no signs that files' patterns or tools' options know.
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if link::check_name(name).is_err() || !name.bytes().all(good) || name.starts_with('-') {
            let text = format!("'{}' cannot be the name of an interface", name.escape_default());
            return Err(Error::new(Code::XmlError, Domain::Interface, text));
        }
    }
    of.inner().iter().try_for_each(names)
}
