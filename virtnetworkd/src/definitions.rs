//! The persistent side of networks: defining, changing and removing configurations, and reading them at start.

use std::sync::Arc;

use uuid::Uuid;
use virt_api::network::v1alpha1::MetadataChangeEvent;
use virt_api::network::v1alpha1::watch_response::Event;
use virt_consts::{VIR_NETWORK_EVENT_DEFINED, VIR_NETWORK_EVENT_UNDEFINED};
use virt_error::{Domain, Error, Result};
use virt_model::network::Network as Document;
use virt_model::network::forward::ForwardMode;
use virt_model::network::forwarding::PortForwards;
use virt_model::{Mac, Mode};
use virt_object::blocking;
use virt_object::names;
use virt_object::owner::{Class, Spec};
use virt_object::registry::Claim;
use virt_object::store::Loaded;

use crate::driver::Driver;
use crate::firewall::forwards;
use crate::network::{Network, NetworkExt, Published, Work, WorkExt, invalid};
use crate::{pool, status};
use virt_host::link;

/// Reads a document and fills in what only the host can tell: UUID, bridge name, hardware address.
///
/// # Errors
/// What the document's own rules refuse; code 1 for a bridge that another network has.
pub fn complete(driver: &Driver, xml: &str) -> Result<Document> {
    let net = Document::parse(xml, Mode::CONFIG)?;
    check_pool(driver, &net)?;
    fill_in(driver, net)
}

fn fill_in(driver: &Driver, mut net: Document) -> Result<Document> {
    names::NETWORK.check(net.name())?;
    let uuid = *net.uuid.get_or_insert_with(Uuid::new_v4);
    // Whether name and UUID are another network's is told before what is wrong with the bridge; they are claimed later.
    drop(driver.networks.try_claim(net.name(), uuid)?);
    check_names(&net)?;
    if !net.owns_bridge() {
        if let Some(name) = &net.bridge.name {
            link::check_name(name)?;
        }
        return Ok(net);
    }
    match net.bridge.name.clone() {
        Some(name) if !name.contains("%d") => {
            link::check_name(&name)?;
            if driver.with_bridges(&uuid, |used| used(&name)) {
                return Err(Error::internal(
                    Domain::Network,
                    format!("bridge name '{name}' already in use."),
                ));
            }
        }
        pattern => {
            let pattern = pattern.unwrap_or_else(|| "virbr%d".into());
            link::check_name(&pattern.replacen("%d", "0", 1))?;
            net.bridge.name = Some(driver.free_bridge(&uuid, &pattern)?);
        }
    }
    // The prefix is QEMU's; the rest is taken from a random UUID.
    let random = Uuid::new_v4().into_bytes();
    net.mac.get_or_insert(Mac([0x52, 0x54, 0x00, random[0], random[1], random[2]]));
    Ok(net)
}

/// What gets into rules and to guests' cards: interfaces that packets leave by, and forwards.
fn check_names(net: &Document) -> Result<()> {
    let forward = net.forward.iter();
    forward
        .flat_map(|f| f.dev.iter().chain(f.interfaces.iter().map(|i| &i.dev)))
        .try_for_each(|dev| link::check_name(dev))?;
    forwards::check(net, &PortForwards::of(net)?.forwards)
}

/// A pool of host cards by PCI address needs virtual functions.
fn check_pool(driver: &Driver, net: &Document) -> Result<()> {
    let Some(forward) = net.forward.as_ref().filter(|f| f.mode == ForwardMode::Hostdev) else {
        return Ok(());
    };
    for address in &forward.addresses {
        let place = pool::place(&address.pci);
        if !driver.folders.sys.is_function(place) {
            let path = driver.folders.sys.device(place);
            let text = format!(
                "device '{}' in network '{}' is not an SR-IOV Virtual Function",
                path.display(),
                net.name()
            );
            return Err(Error::new(virt_error::Code::ConfigUnsupported, Domain::Network, text));
        }
    }
    Ok(())
}

/// Makes or replaces a persistent network.
///
/// # Errors
/// As [`complete`]; code 9 when name or UUID are another network's; code 38 when the file cannot be written.
pub async fn define(driver: &Arc<Driver>, xml: String) -> Result<Arc<Network>> {
    let this = driver.clone();
    let net = Arc::new(blocking::run(move || complete(&this, &xml)).await?);
    let (name, uuid) = (net.name().to_string(), net.uuid.unwrap_or_default());
    match driver.networks.claim(&name, uuid).await? {
        Claim::New(reservation) => {
            save(driver, &net).await?;
            let network =
                reservation.commit(Network::new(driver, uuid, Published::inactive(&name, Some(net))));
            driver.emit(network.reference(), lifecycle(VIR_NETWORK_EVENT_DEFINED));
            Ok(network)
        }
        Claim::Existing(network) => {
            let define = Spec::new("define", Class::Modify);
            network
                .work(define, move |work| {
                    Box::pin(async move {
                        save(&work.driver, &net).await?;
                        work.publish(|p| p.config = Some(net));
                        work.emit_lifecycle(VIR_NETWORK_EVENT_DEFINED);
                        Ok(())
                    })
                })
                .await?;
            Ok(network)
        }
    }
}

fn lifecycle(event: i32) -> Event {
    Event::Lifecycle(virt_api::network::v1alpha1::LifecycleEvent { event })
}

async fn save(driver: &Driver, net: &Arc<Document>) -> Result<()> {
    let (store, net) = (driver.store.clone(), net.clone());
    blocking::run(move || store.save(net.name(), &net.format(Mode::CONFIG))).await
}

/// Removes the configuration; an active network goes on as a transient one.
///
/// # Errors
/// Code 55 for a transient network, code 38 when the file cannot be removed.
pub async fn undefine(network: &Network) -> Result<()> {
    network
        .work(Spec::new("undefine", Class::Modify), |work| {
            Box::pin(async move {
                let before = work.published();
                if before.value.config.is_none() {
                    return Err(invalid("can't undefine transient network"));
                }
                let (store, name) = (work.driver.store.clone(), before.value.name.to_string());
                blocking::run(move || store.remove(&name)).await?;
                if before.value.is_active() {
                    work.publish(|p| {
                        p.config = None;
                        p.autostart = false;
                    });
                } else {
                    work.driver.networks.remove(&work.uuid);
                }
                work.emit_lifecycle(VIR_NETWORK_EVENT_UNDEFINED);
                Ok(())
            })
        })
        .await
}

/// Sets whether the network starts with the host.
///
/// # Errors
/// Code 55 for a transient network, code 38 when the link cannot be made.
pub async fn set_autostart(network: &Network, on: bool) -> Result<()> {
    network
        .work(Spec::new("autostart", Class::Modify), move |work| {
            Box::pin(async move {
                let before = work.published();
                if before.value.config.is_none() {
                    return Err(invalid("cannot set autostart for transient network"));
                }
                let (store, name) = (work.driver.store.clone(), before.value.name.to_string());
                blocking::run(move || store.set_autostart(&name, on)).await?;
                work.publish(|p| p.autostart = on);
                Ok(())
            })
        })
        .await
}

/// Which configuration a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affect {
    /// The running network.
    pub live: bool,
    /// The persistent configuration.
    pub config: bool,
}

impl Affect {
    /// From virNetworkUpdateFlags; no bit means whichever is current.
    ///
    /// # Errors
    /// Code 55 for the running part of an inactive network or the persistent part of a transient one.
    pub fn resolve(flags: u32, published: &Published) -> Result<Self> {
        let (live, config) = (flags & 1 != 0, flags & 2 != 0);
        let (live, config) = match (live, config) {
            (false, false) => (published.is_active(), !published.is_active()),
            given => given,
        };
        if live && !published.is_active() {
            return Err(invalid("network is not running"));
        }
        if config && published.config.is_none() {
            return Err(invalid("cannot change persistent config of a transient network"));
        }
        Ok(Self { live, config })
    }
}

/// Applies one edit to the configurations it is for, and hands the new running one to `act` before it is published.
///
/// # Errors
/// What `edit` refuses and `act` fails with; nothing is changed then.
pub async fn change<E>(work: &mut Work, affect: Affect, edit: E) -> Result<Option<Arc<Document>>>
where
    E: Fn(&mut Document) -> Result<()>,
{
    let before = work.published();
    let edited = |document: &Option<Arc<Document>>, mode: Mode| -> Result<Option<Arc<Document>>> {
        let Some(document) = document else { return Ok(None) };
        let mut new = (**document).clone();
        edit(&mut new)?;
        // What was put together must be a document that can be read again.
        let new = Document::parse(&new.format(mode), mode.known())?;
        check_names(&new)?;
        Ok(Some(Arc::new(new)))
    };
    let config = if affect.config { edited(&before.value.config, Mode::CONFIG)? } else { None };
    let live = if affect.live { edited(&before.value.live, Mode::LIVE)? } else { None };
    if let Some(live) = &live {
        work.driver.no_clash(&work.uuid, &PortForwards::of(live)?.forwards)?;
    }
    if let Some(live) = &live {
        status::save(work, live, &work.published().value.ports)?;
    }
    if let Some(config) = &config {
        save(&work.driver, config).await?;
    }
    work.publish(|p| {
        p.config = config.or(p.config.take());
        p.live = live.clone().or(p.live.take());
    });
    Ok(live)
}

/// Tells a change of title, description or metadata.
pub fn metadata_event(kind: i32, uri: Option<String>) -> Event {
    Event::MetadataChange(MetadataChangeEvent { r#type: kind, namespace_uri: uri })
}

/// Makes a network of every definition on disk. A file that cannot be used is logged and left alone. Blocking.
///
/// # Errors
/// Code 38 when the folder cannot be read.
pub fn load(driver: &Arc<Driver>) -> Result<usize> {
    driver.store.load_each(|loaded| load_one(driver, loaded))
}

fn load_one(driver: &Arc<Driver>, loaded: Loaded) -> Result<()> {
    let text = loaded.text?;
    let written = Document::parse(&text, Mode::CONFIG.known())?;
    let net = fill_in(driver, written.clone())?;
    if net.name() != loaded.name {
        let text = format!(
            "Network config filename '{}.xml' does not match network name '{}'",
            loaded.name,
            net.name()
        );
        return Err(invalid(text));
    }
    if written.uuid.is_none() || net.owns_bridge() && written.mac.is_none() {
        // As packages bring it: from now on it is the same network at each start.
        driver.store.save(net.name(), &net.format(Mode::CONFIG))?;
    }
    let (name, uuid) = (net.name().to_string(), net.uuid.unwrap_or_default());
    let mut published = Published::inactive(&name, Some(Arc::new(net)));
    published.autostart = loaded.autostart;
    driver.networks.insert(&name, uuid, Network::new(driver, uuid, published))?;
    Ok(())
}
