//! Connecting a card: its port, its tap, its descriptors.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use uuid::Uuid;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::actual::ActualKind;
use virt_model::domain::interface::{Interface, NetBackendName, NetSource};
use virt_model::domain::{Domain, VirtType};
use virt_model::network::port::PortOwner;
use virt_object::undo::Undo;

use super::{Holding, Names, Networks, filter, is_virtio, limits, macvtap, queues, tap};

const VHOST: &str = "/dev/vhost-net";

/// What connecting needs beside the card.
pub struct Context<'a> {
    /// Where ports are.
    pub networks: &'a Arc<Networks>,
    /// Where names come from.
    pub names: &'a Names,
    /// Runs what has to wait.
    pub runtime: &'a Handle,
    /// The guest.
    pub owner: PortOwner,
    /// Whether the kernel may move the guest's packets itself.
    pub kvm: bool,
}

impl<'a> Context<'a> {
    /// For cards of this guest.
    pub fn new(networks: &'a Arc<Networks>, names: &'a Names, runtime: &'a Handle, guest: &Domain) -> Self {
        let owner = owner(guest);
        Self { networks, names, runtime, owner, kvm: guest.virt_type == VirtType::Kvm }
    }
}

/// The guest as ports know it.
pub fn owner(guest: &Domain) -> PortOwner {
    PortOwner { uuid: guest.uuid, name: guest.name.clone() }
}

/// A connected card's descriptors.
#[derive(Debug)]
pub struct Connected {
    /// The card.
    pub alias: String,
    /// Its tap, one for each queue; or its vDPA device.
    pub tap: Vec<OwnedFd>,
    /// vhost-net, one for each queue or none.
    pub vhost: Vec<OwnedFd>,
}

/// Connects a card; one that needs nothing of the host is `None`. `note` hears of everything that would outlive a killed
/// daemon before it is made; `undo` learns how it is taken back. Blocking.
///
/// # Errors
/// Code 43 or 55 from the network, code 38 from the kernel, code 67 for what such a card cannot have.
pub fn connect(
    card: &mut Interface,
    context: &Context<'_>,
    undo: &mut Undo,
    note: &mut dyn FnMut(&Interface) -> Result<()>,
) -> Result<Option<Connected>> {
    take_port(card, context, undo, note)?;
    check(card)?;
    let learns_from_us = |manager: &Option<String>| manager.as_deref() == Some("libvirt");
    let connection = card.connection();
    let fds = match &connection {
        NetSource::Network(n) => {
            let bridge = n.bridge.as_deref().unwrap_or_default();
            tap::bridge(card, context.names, bridge, learns_from_us(&n.mac_table_manager))?
        }
        NetSource::Bridge(b) => {
            let bridge = b.bridge.as_deref().unwrap_or_default();
            tap::bridge(card, context.names, bridge, learns_from_us(&b.mac_table_manager))?
        }
        NetSource::Ethernet(e) => tap::plain(card, context.names, e)?,
        NetSource::Direct(d) => macvtap::open(card, context.names, d, note)?,
        NetSource::Vdpa(source) => {
            let alias = card.info.alias.clone().unwrap_or_default();
            let device = vdpa(source.dev.as_deref().unwrap_or_default())?;
            return Ok(Some(Connected { alias, tap: vec![device], vhost: Vec::new() }));
        }
        NetSource::User(_)
        | NetSource::VhostUser(_)
        | NetSource::Server(_)
        | NetSource::Client(_)
        | NetSource::Mcast(_)
        | NetSource::Udp(_)
        | NetSource::Internal(_)
        | NetSource::Hostdev(_)
        | NetSource::Null
        | NetSource::Vds(_) => return Ok(None),
    };
    release_later(card, context, undo, false);
    filter::bind(card, context)?;
    if let Some(bandwidth) = card.limits() {
        limits::set(card, Some(bandwidth))?;
    }
    let vhost = vhost(card, context.kvm)?;
    Ok(Some(Connected { alias: card.info.alias.clone().unwrap_or_default(), tap: fds, vhost }))
}

/// Ports are taken under a name that was written down before.
fn take_port(
    card: &mut Interface,
    context: &Context<'_>,
    undo: &mut Undo,
    note: &mut dyn FnMut(&Interface) -> Result<()>,
) -> Result<()> {
    card.actual = None;
    let NetSource::Network(source) = &mut card.source else { return Ok(()) };
    source.port_id = Some(Uuid::new_v4());
    note(card)?;
    let actual = context.runtime.block_on(context.networks.take(card, &context.owner))?;
    card.actual = Some(actual);
    release_later(card, context, undo, true);
    Ok(())
}

/// Registers how what the card holds is given back; `port`: its port, else the rest.
fn release_later(card: &Interface, context: &Context<'_>, undo: &mut Undo, port: bool) {
    let networks = context.networks.clone();
    if let Some(holding) = Holding::of(card).and_then(|h| h.part(port)) {
        undo.add_async("network card", move || async move {
            holding.release(&networks).await;
            Ok(())
        });
    }
}

/// What this driver cannot give a card is refused before the card has a tap.
fn check(card: &Interface) -> Result<()> {
    let actual = card.actual.as_ref();
    let unsupported = |text: String, domain| Err(Error::new(Code::ConfigUnsupported, domain, text));
    let hostdev = matches!(card.source, NetSource::Hostdev(_))
        || actual.is_some_and(|a| a.kind == Some(ActualKind::Hostdev));
    if hostdev {
        // Host cards are handed over by VFIO, which is not prepared yet.
        return unsupported("host doesn't support passthrough of host PCI devices".into(), From::Qemu);
    }
    if matches!(card.source, NetSource::Internal(_) | NetSource::Vds(_)) {
        return unsupported(
            format!("network device type '{}' is not supported", card.source.tag()),
            From::Qemu,
        );
    }
    let switch = actual.and_then(|a| a.virtualport.as_ref()).or(card.virtualport.as_ref());
    let switch = switch.and_then(|v| v.kind.as_deref());
    if matches!(switch, Some("openvswitch" | "midonet")) {
        return Err(Error::no_support(From::Qemu, "virtualport type openvswitch"));
    }
    let direct = matches!(card.connection(), NetSource::Direct(_));
    if direct && matches!(switch, Some("802.1Qbg" | "802.1Qbh")) {
        return Err(Error::no_support(From::Qemu, "virtualport type 802.1Qbg"));
    }
    // A bridge of the host does it; a network's own bridge does not, as in the reference.
    if card.vlans().is_some() && !matches!(card.connection(), NetSource::Bridge(_)) {
        let mac = card.mac.as_ref().and_then(|m| m.address).map(|m| m.to_string()).unwrap_or_default();
        let text = format!("interface {mac} - vlan tag not supported for this connection type");
        return unsupported(text, From::Domain);
    }
    Ok(())
}

/// The kernel's own packet mover, when the guest and the host have it.
/// The device that moves packets for a card: QEMU gets it opened.
fn vdpa(path: &str) -> Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    // A pipe in its place must not hold the start up.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let device = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let device = device
        .map_err(|e| Error::system(From::Qemu, format!("Unable to open '{path}' for vdpa device"), e))?;
    Ok(device.into())
}

fn vhost(card: &Interface, kvm: bool) -> Result<Vec<OwnedFd>> {
    let wanted = card.driver.name.unwrap_or(NetBackendName::Default);
    if !kvm || !is_virtio(card) || wanted == NetBackendName::Qemu {
        return Ok(Vec::new());
    }
    let device = card.backend.vhost.as_deref().unwrap_or(VHOST);
    match virt_tap_sys::open_vhost(Path::new(device), queues(card)) {
        Ok(fds) => Ok(fds),
        Err(error) if wanted == NetBackendName::Vhost => {
            tracing::info!(%error, device, "vhost-net");
            let text = "vhost-net was requested for an interface, but is unavailable";
            Err(Error::new(Code::ConfigUnsupported, From::Qemu, text))
        }
        Err(_) => Ok(Vec::new()),
    }
}
