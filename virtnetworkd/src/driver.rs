//! What all networks of the daemon share.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;
use virt_api::network::v1alpha1::watch_response::Event;
use virt_api::network::v1alpha1::{NetworkRef, WatchResponse};
use virt_error::{Code, Domain, Error, Result};
use virt_model::network::Network as Document;
use virt_model::network::forwarding::{Guest, PortForward};
use virt_model::network::port::NetworkPort;
use virt_object::blocking;
use virt_object::events::Journal;
use virt_object::owner::Kind;
use virt_object::registry::{self, Registry};
use virt_object::store::Store;

use crate::dnsmasq::{self, Files};
use crate::firewall::foreign::Finding;
use crate::firewall::{self, Firewall};
use crate::network::{Network, invalid};
use virt_host::link;
use virt_host::sriov::Sysfs;

/// Where files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Definitions: /etc/libvirt/qemu/networks.
    pub config: PathBuf,
    /// Status, pid files: /run/libvirt/network.
    pub run: PathBuf,
    /// The servers' files: /var/lib/libvirt/dnsmasq.
    pub dnsmasq: PathBuf,
    /// The administrator's program: /etc/libvirt/hooks/network.
    pub hook: PathBuf,
    /// The kernel's devices.
    pub sys: Sysfs,
    /// firewalld's own command: /usr/bin/firewall-cmd.
    pub firewalld: PathBuf,
}

/// The driver.
pub struct Driver {
    /// Where files are.
    pub folders: Folders,
    /// All networks.
    pub networks: Arc<Registry<Network>>,
    /// What the owners share.
    pub kind: Arc<Kind>,
    /// The definitions on disk.
    pub store: Arc<Store>,
    /// What happened.
    pub journal: Arc<Journal>,
    /// The program dnsmasq reports leases to.
    pub helper: PathBuf,
    /// The rules in force.
    pub firewall: Firewall,
    /// What other firewalls were found to drop, by network, at the last look.
    pub foreign: parking_lot::Mutex<Vec<(String, Finding)>>,
    /// Held by a network that starts, from its look at the host's routes until its own are there.
    pub addresses: tokio::sync::Mutex<()>,
    /// Held while names of bridges are given out.
    bridges: parking_lot::Mutex<()>,
}

impl Driver {
    /// A driver without networks.
    ///
    /// # Errors
    /// Code 38 when a folder cannot be made.
    pub fn new(folders: Folders, kind: Kind, journal: Arc<Journal>, helper: PathBuf) -> Result<Arc<Self>> {
        for dir in [&folders.config, &folders.run, &folders.dnsmasq] {
            std::fs::create_dir_all(dir).map_err(|e| {
                Error::system(Domain::Network, format!("cannot create directory {}", dir.display()), e)
            })?;
        }
        Ok(Arc::new(Self {
            networks: Arc::new(Registry::new(registry::NETWORK)),
            kind: Arc::new(kind),
            store: Arc::new(Store::new(folders.config.clone(), "virsh net-edit")),
            journal,
            helper,
            firewall: Firewall::new(&folders.run),
            foreign: parking_lot::Mutex::default(),
            addresses: tokio::sync::Mutex::default(),
            bridges: parking_lot::Mutex::default(),
            folders,
        }))
    }

    /// Appends an event to the journal, in its wire form without the cursor that the journal gives it.
    pub fn emit(&self, network: NetworkRef, event: Event) {
        let told = WatchResponse { cursor: None, network: Some(network), event: Some(event) };
        virt_rpc::watch::tell(&self.journal, &told);
    }

    /// The files of a network's server.
    pub fn files(&self, name: &str) -> Files {
        Files::new(&self.folders.dnsmasq, &self.folders.run, name)
    }

    /// The network a request names.
    ///
    /// # Errors
    /// Code 43 in the reference's words, code 8 when none is named.
    pub fn find(&self, wanted: Option<&NetworkRef>) -> Result<Arc<Network>> {
        let missing = |text: String| Error::new(Code::NoNetwork, Domain::Network, text);
        let none = || Error::new(Code::InvalidArg, Domain::Network, "no network is named");
        let wanted = wanted.ok_or_else(none)?;
        if wanted.uuid.is_empty() {
            if wanted.name.is_empty() {
                return Err(missing("no network with matching name ''".into()));
            }
            let found = self.networks.by_name(&wanted.name);
            return found.ok_or_else(|| missing(format!("no network with matching name '{}'", wanted.name)));
        }
        let uuid = Uuid::from_slice(&wanted.uuid)
            .map_err(|_| Error::new(Code::InvalidArg, Domain::Network, "a UUID has 16 bytes"))?;
        self.networks.by_uuid(&uuid).ok_or_else(|| match wanted.name.as_str() {
            "" => missing(format!("no network with matching uuid '{uuid}'")),
            name => missing(format!("no network with matching uuid '{uuid}' ({name})")),
        })
    }

    /// The rules of a running network now.
    ///
    /// # Errors
    /// Code 38 when its leases cannot be read.
    pub async fn rules(
        &self,
        live: &Arc<Document>,
        ports: &Arc<Vec<NetworkPort>>,
    ) -> Result<Vec<firewall::Rule>> {
        let (live, ports) = (live.clone(), ports.clone());
        let by_card = |f: &PortForward| matches!(f.guest, Some(Guest::Card(_)));
        let files =
            firewall::forwards::all(&live, &ports).iter().any(by_card).then(|| self.files(live.name()));
        blocking::run(move || {
            let leases = match files {
                Some(files) => dnsmasq::leases::of(&files, &live)?,
                None => Vec::new(),
            };
            Ok(firewall::rules(&live, &firewall::forwards::resolve(&live, &ports, &leases)))
        })
        .await
    }

    /// Puts the rules of a network that runs, or is about to, into force.
    ///
    /// # Errors
    /// As [`Self::rules`], and what nft refuses.
    pub async fn enforce(
        &self,
        uuid: Uuid,
        live: &Arc<Document>,
        ports: &Arc<Vec<NetworkPort>>,
    ) -> Result<()> {
        if !live.owns_bridge() {
            return Ok(());
        }
        let rules = self.rules(live, ports).await?;
        self.firewall.set(uuid, live.bridge.name.as_deref().unwrap_or_default(), rules).await
    }

    /// Refuses forwards that take ports of the host which another network's already take.
    ///
    /// # Errors
    /// Code 55.
    pub fn no_clash(&self, own: &Uuid, wanted: &[PortForward]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        for network in self.networks.list().iter().filter(|n| n.uuid() != own) {
            let published = network.published();
            let Some(live) = &published.value.live else { continue };
            let taken = firewall::forwards::all(live, &published.value.ports);
            if taken.iter().any(|t| wanted.iter().any(|w| w.clashes(t))) {
                return Err(invalid(format!(
                    "a port forward of network '{}' takes the same port",
                    live.name()
                )));
            }
        }
        Ok(())
    }

    /// Runs `take` while no other name of a bridge is given out; it is told whether a name is another network's.
    pub fn with_bridges<R>(&self, own: &Uuid, take: impl FnOnce(&dyn Fn(&str) -> bool) -> R) -> R {
        let _held = self.bridges.lock();
        let networks = self.networks.list();
        let used = |name: &str| {
            networks.iter().filter(|n| n.uuid() != own).any(|n| {
                let published = n.published();
                let documents = [&published.value.live, &published.value.config];
                documents
                    .into_iter()
                    .flatten()
                    .any(|d| d.bridge.name.as_deref() == Some(name) && d.owns_bridge())
            })
        };
        take(&used)
    }

    /// A name for a bridge from a pattern with `%d`: the first number that no network and no interface has.
    ///
    /// # Errors
    /// Code 1 when all are taken.
    pub fn free_bridge(&self, own: &Uuid, pattern: &str) -> Result<String> {
        self.with_bridges(own, |used| {
            let names = (0..=u16::MAX).map(|n| pattern.replacen("%d", &n.to_string(), 1));
            let mut free = names.filter(|name| !used(name) && !link::exists(name));
            free.next().ok_or_else(|| {
                Error::internal(Domain::Network, format!("Bridge generation exceeded max id {}", u16::MAX))
            })
        })
    }
}
