//! Network cards.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{Base0, El, Mode, NonZero, OnOff, Xml, YesElse, YesNo, names, not_zero};

use super::actual::Actual;
use super::address::PciAddress;
use super::chardev::Reconnect;
use super::info::{DeviceInfo, VirtioOptions};
use super::net::{Bandwidth, IpAddress, Route, VirtualPort, Vlan};
use crate::{Mac, Uuid, UuidText};

names! {
    /// How a card shares a host device.
    pub enum DirectMode { Default = "default", Vepa = "vepa", Bridge = "bridge", Private = "private", Passthrough = "passthrough" }
    /// Link state.
    pub enum LinkState { Default = "default", Up = "up", Down = "down" }
    /// Who moves packets.
    pub enum NetBackendName { Default = "default", Qemu = "qemu", Vhost = "vhost", Vfio = "vfio", Kvm = "kvm", Xen = "xen" }
    /// When packets are sent.
    pub enum TxMode { Default = "default", Iothread = "iothread", Timer = "timer" }
    /// What serves a user network or a vhost-user card.
    pub enum NetBackendKind { Default = "default", Passt = "passt" }
    /// Part of a failover pair.
    pub enum TeamingKind { None = "none", Persistent = "persistent", Transient = "transient" }
    /// Which protocol a forwarded port is for.
    pub enum ForwardProto { None = "none", Tcp = "tcp", Udp = "udp" }
    /// Which end of a vhost-user socket the guest is.
    pub enum VhostUserMode { None = "none", Client = "client", Server = "server" }
    /// Who chose the MAC address.
    pub enum MacKind { Default = "", Generated = "generated", Static = "static" }
}

/// What a card is connected to.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type", default = "user")]
pub enum NetSource {
    #[xml("user", child = "source")]
    User(UserNet),
    #[xml("ethernet", child = "source")]
    Ethernet(EthernetNet),
    #[xml("vhostuser", child = "source")]
    VhostUser(VhostUserNet),
    #[xml("server", child = "source")]
    Server(SocketNet),
    #[xml("client", child = "source")]
    Client(SocketNet),
    #[xml("mcast", child = "source")]
    Mcast(SocketNet),
    #[xml("udp", child = "source")]
    Udp(SocketNet),
    #[xml("network", child = "source")]
    Network(NetworkNet),
    #[xml("bridge", child = "source")]
    Bridge(BridgeNet),
    #[xml("internal", child = "source")]
    Internal(InternalNet),
    #[xml("direct", child = "source")]
    Direct(DirectNet),
    #[xml("hostdev", child = "source")]
    Hostdev(HostdevNet),
    #[xml("vdpa", child = "source")]
    Vdpa(DevNet),
    Null,
    #[xml("vds", child = "source")]
    Vds(VdsNet),
}

impl Default for NetSource {
    fn default() -> Self {
        Self::User(UserNet::default())
    }
}

/// The user's own network; `dev` is the host interface passt copies its settings from.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct UserNet {
    #[xml(attr)]
    pub dev: Option<String>,
}

/// A tap; addresses and routes here are the host's end.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct EthernetNet {
    #[xml(child = "ip")]
    pub ips: Vec<IpAddress>,
    #[xml(child = "route")]
    pub routes: Vec<Route>,
}

/// A vhost-user socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VhostUserNet {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub path: Option<String>,
    #[xml(attr)]
    pub mode: Option<VhostUserMode>,
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(child, keep_if = Reconnect::says)]
    pub reconnect: Option<Reconnect>,
}

/// Guests joined by sockets.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SocketNet {
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr)]
    pub port: Option<u32>,
    #[xml(child)]
    pub local: Option<SocketEnd>,
}

/// The local end of a UDP link.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SocketEnd {
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr)]
    pub port: Option<u32>,
}

/// A libvirt network; what it resolved to is known while the guest runs.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NetworkNet {
    #[xml(attr, required)]
    pub network: Option<String>,
    #[xml(attr)]
    pub portgroup: Option<String>,
    #[xml(attr = "portid", with = UuidText, live)]
    pub port_id: Option<Uuid>,
    #[xml(attr, live)]
    pub bridge: Option<String>,
    #[xml(attr, live)]
    pub dev: Option<String>,
    #[xml(attr, live)]
    pub mode: Option<DirectMode>,
    #[xml(attr = "macTableManager", live)]
    pub mac_table_manager: Option<String>,
}

/// A host bridge. A running guest's card may have it from a network.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BridgeNet {
    #[xml(attr, live)]
    pub network: Option<String>,
    #[xml(attr, live)]
    pub portgroup: Option<String>,
    #[xml(attr = "portid", with = UuidText, live)]
    pub port_id: Option<Uuid>,
    #[xml(attr, required)]
    pub bridge: Option<String>,
    #[xml(attr = "macTableManager", live)]
    pub mac_table_manager: Option<String>,
}

/// A hypervisor's internal network.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct InternalNet {
    #[xml(attr)]
    pub name: Option<String>,
}

/// macvtap over a host device. A running guest's card may have it from a network.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DirectNet {
    #[xml(attr, live)]
    pub network: Option<String>,
    #[xml(attr, live)]
    pub portgroup: Option<String>,
    #[xml(attr = "portid", with = UuidText, live)]
    pub port_id: Option<Uuid>,
    #[xml(attr, required)]
    pub dev: Option<String>,
    #[xml(attr)]
    pub mode: Option<DirectMode>,
}

/// A host PCI network card.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HostdevNet {
    #[xml(child)]
    pub address: Option<HostdevNetAddress>,
}

/// The card's PCI or USB address.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type")]
pub enum HostdevNetAddress {
    Pci(PciAddress),
    Usb(HostUsbAddress),
}

/// A host USB device by bus and number.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct HostUsbAddress {
    #[xml(attr, with = Base0, required)]
    pub bus: Option<u32>,
    #[xml(attr, with = Base0, required)]
    pub device: Option<u32>,
    #[xml(attr)]
    pub port: Option<String>,
}

/// A host device by path.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct DevNet {
    #[xml(attr)]
    pub dev: Option<String>,
}

/// A VMware distributed switch.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VdsNet {
    #[xml(attr)]
    pub switchid: Option<String>,
    #[xml(attr)]
    pub portid: Option<i64>,
    #[xml(attr)]
    pub portgroupid: Option<String>,
    #[xml(attr)]
    pub connectionid: Option<i64>,
}

/// `<interface>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Interface::before, check = Interface::check)]
pub struct Interface {
    #[xml(child)]
    pub mac: Option<MacAddress>,
    /// Writes the `type` attribute too.
    #[xml(flatten)]
    pub source: NetSource,
    /// Whether the driver takes the host's card and gives it back (`hostdev`).
    #[xml(attr, with = YesElse)]
    pub managed: Option<bool>,
    #[xml(attr = "trustGuestRxFilters", with = YesNo)]
    pub trust_guest_rx_filters: Option<bool>,
    #[xml(child)]
    pub vlan: Option<Vlan>,
    #[xml(child)]
    pub virtualport: Option<VirtualPort>,
    #[xml(child)]
    pub bandwidth: Option<Bandwidth>,
    #[xml(child = "ip")]
    pub ips: Vec<IpAddress>,
    #[xml(child = "route")]
    pub routes: Vec<Route>,
    #[xml(child = "portForward")]
    pub port_forwards: Vec<PortForward>,
    #[xml(attr = "port@isolated", with = YesNo)]
    pub isolated: Option<bool>,
    #[xml(child, status)]
    pub actual: Option<Actual>,
    #[xml(attr = "script@path")]
    pub script: Option<String>,
    #[xml(attr = "downscript@path")]
    pub downscript: Option<String>,
    #[xml(attr = "backenddomain@name")]
    pub backend_domain: Option<String>,
    #[xml(attr = "target@dev", keep_if = own_name)]
    pub target: Option<String>,
    #[xml(attr = "target@managed", with = YesNo)]
    pub target_managed: Option<bool>,
    #[xml(child)]
    pub guest: GuestNames,
    #[xml(attr = "model@type", loose)]
    pub model: Option<String>,
    #[xml(child)]
    pub driver: NetDriver,
    #[xml(child)]
    pub backend: NetBackend,
    #[xml(child)]
    pub filterref: Option<FilterRef>,
    #[xml(child)]
    pub teaming: Option<Teaming>,
    #[xml(child)]
    pub tune: Tune,
    #[xml(attr = "link@state", loose, say(ConfigUnsupported, "unknown interface link state '{}'"))]
    pub link: Option<LinkState>,
    #[xml(attr = "mtu@size", loose, read_if = not_zero)]
    pub mtu: Option<u32>,
    #[xml(child)]
    pub coalesce: Option<Coalesce>,
    #[xml(flatten)]
    pub info: DeviceInfo,
}

/// Names the host made up are not configuration.
#[allow(clippy::ptr_arg)]
fn own_name(name: &String, mode: Mode) -> bool {
    !mode.inactive || !["vnet", "macvtap", "macvlan", "vif"].iter().any(|p| name.starts_with(p))
}

impl Interface {
    fn before(e: El<'_>) -> Result<()> {
        let kind = e.attr("type").unwrap_or_default();
        if e.child("virtualport").is_some() && !matches!(kind, "network" | "bridge" | "direct" | "hostdev") {
            let text = format!("<virtualport> element unsupported for <interface type='{kind}'>");
            return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        Ok(())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        if !matches!(self.source, NetSource::Hostdev(_)) {
            self.managed = None;
        } else {
            let NetDriver { name, model, .. } = std::mem::take(&mut self.driver);
            self.driver = NetDriver { name, model, ..NetDriver::default() };
        }
        if !matches!(self.source, NetSource::Ethernet(_) | NetSource::Network(_) | NetSource::Bridge(_)) {
            self.filterref = None;
        }
        if let Some(teaming) = self.teaming.take_if(|t| t.kind == TeamingKind::None)
            && teaming.persistent.is_some()
        {
            let text = "unknown teaming type '(null)'";
            return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        // What only virtio cards have is passed over for others.
        let virtio = match (&self.model, &self.source) {
            (Some(model), _) => model.starts_with("virtio"),
            (None, source) => matches!(source, NetSource::VhostUser(_) | NetSource::Vdpa(_)),
        };
        if !virtio && !matches!(self.source, NetSource::Hostdev(_)) {
            self.driver =
                NetDriver { virtio: std::mem::take(&mut self.driver.virtio), ..NetDriver::default() };
            self.backend.vhost = None;
        }
        crate::network::drop_empty(&mut self.bandwidth, e);
        let passt = self.backend.kind == Some(NetBackendKind::Passt);
        if let NetSource::User(s) = &mut self.source
            && !passt
        {
            s.dev = None;
        }
        if let NetSource::Direct(s) = &mut self.source {
            s.mode.get_or_insert(DirectMode::Vepa);
        }
        if self.coalesce.as_ref().is_some_and(|c| c.rx.frames.unwrap_or(0) == 0) {
            self.coalesce = None;
        }
        let own = e.child("source");
        if let (NetSource::VhostUser(s), false) = (&mut self.source, passt) {
            if let Some(kind) = s.kind.as_deref().filter(|k| *k != "unix") {
                let text = format!("Type='{kind}' unsupported for <interface type='vhostuser'>");
                return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
            }
            if let (Some(source), None) = (own, &s.path) {
                return Err(source.missing_attr("path"));
            }
            s.kind = Some("unix".into());
            s.mode.get_or_insert(VhostUserMode::Client);
        }
        if let (NetSource::Vdpa(DevNet { dev: None }), Some(source)) = (&self.source, own) {
            return Err(source.missing_attr("dev"));
        }
        let of_host = |c: El<'_>| matches!(c.name(), "ip" | "route");
        if !matches!(self.source, NetSource::Ethernet(_)) && own.is_some_and(|s| s.children().any(of_host)) {
            let text = format!(
                "Invalid attempt to set network interface host-side IP route and/or address info on interface of type '{}'. This is only supported on interfaces of type 'ethernet'",
                self.source.tag()
            );
            return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        let bridged = matches!(self.source, NetSource::Bridge(_) | NetSource::Direct(_));
        if bridged && self.virtualport.as_ref().is_some_and(|p| p.kind.is_none()) {
            return Err(e.error(Code::XmlError, Domain::None, "missing required virtualport type"));
        }
        let missing = |what: &str, kind: &str| {
            let text = format!("No <source> '{what}' attribute specified with <interface type='{kind}'/>");
            Err(e.error(Code::InternalError, Domain::Domain, text))
        };
        match &self.source {
            source if needs_source(source) && e.child("source").is_none() => {
                let text = format!("interface type='{}' requires a 'source' element", source.tag());
                Err(e.error(Code::XmlError, Domain::Domain, text))
            }
            NetSource::Internal(s) if s.name.is_none() => missing("name", "internal"),
            _ => Ok(()),
        }
    }
}

/// Cards that are nothing without a source.
fn needs_source(source: &NetSource) -> bool {
    use NetSource as S;
    match source {
        S::User(_) | S::Ethernet(_) | S::VhostUser(_) | S::Hostdev(_) | S::Null => false,
        S::Server(_) | S::Client(_) | S::Mcast(_) | S::Udp(_) | S::Network(_) | S::Bridge(_) => true,
        S::Internal(_) | S::Direct(_) | S::Vdpa(_) | S::Vds(_) => true,
    }
}

/// The card's hardware address.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct MacAddress {
    #[xml(attr, say(XmlError, "unable to parse mac address '{}'"))]
    pub address: Option<Mac>,
    #[xml(attr = "type")]
    pub kind: Option<MacKind>,
    #[xml(attr, with = YesNo)]
    pub check: Option<bool>,
    /// What the guest changed it to.
    #[xml(attr = "currentAddress", live)]
    pub current_address: Option<Mac>,
}

/// The name of the card inside a container.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct GuestNames {
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(attr, live)]
    pub actual: Option<String>,
}

/// One queue is what every card has.
fn several(queues: &u32, _: Mode) -> bool {
    *queues > 1
}

/// How the card's packets are moved.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NetDriver {
    #[xml(attr)]
    pub name: Option<NetBackendName>,
    /// The kernel driver a host card is bound to.
    #[xml(attr)]
    pub model: Option<String>,
    #[xml(attr)]
    pub txmode: Option<TxMode>,
    #[xml(attr, with = OnOff)]
    pub ioeventfd: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub event_idx: Option<bool>,
    #[xml(attr, keep_if = several)]
    pub queues: Option<u32>,
    #[xml(attr, read_if = not_zero)]
    pub rx_queue_size: Option<u32>,
    #[xml(attr, read_if = not_zero)]
    pub tx_queue_size: Option<u32>,
    #[xml(attr, with = OnOff)]
    pub rss: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub rss_hash_report: Option<bool>,
    #[xml(flatten)]
    pub virtio: VirtioOptions,
    #[xml(child)]
    pub host: Offloads,
    #[xml(child)]
    pub guest: Offloads,
}

/// What one end may leave to the other.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Offloads {
    #[xml(attr, with = OnOff)]
    pub csum: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub gso: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub tso4: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub tso6: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub ecn: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub ufo: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub mrg_rxbuf: Option<bool>,
}

/// What serves the card on the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct NetBackend {
    #[xml(attr = "type")]
    pub kind: Option<NetBackendKind>,
    #[xml(attr)]
    pub tap: Option<String>,
    #[xml(attr)]
    pub vhost: Option<String>,
    #[xml(attr = "logFile")]
    pub log_file: Option<String>,
    #[xml(attr)]
    pub hostname: Option<String>,
    #[xml(attr)]
    pub fqdn: Option<String>,
}

/// Ports of the host that reach the guest.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PortForward {
    #[xml(attr, required)]
    pub proto: ForwardProto,
    #[xml(attr)]
    pub address: Option<String>,
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(child = "range")]
    pub ranges: Vec<PortRange>,
}

/// A range of forwarded ports.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PortRange {
    #[xml(attr, with = NonZero)]
    pub start: Option<u32>,
    #[xml(attr, with = NonZero)]
    pub end: Option<u32>,
    #[xml(attr, with = NonZero)]
    pub to: Option<u32>,
    #[xml(attr, with = YesNo)]
    pub exclude: Option<bool>,
}

/// A network filter with its parameters.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FilterRef {
    #[xml(attr)]
    pub filter: Option<String>,
    #[xml(child = "parameter")]
    pub parameters: Vec<FilterParameter>,
}

/// A variable of a network filter.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FilterParameter {
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub value: Option<String>,
}

/// One half of a failover pair.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Teaming {
    #[xml(attr = "type", say(ConfigUnsupported, "unknown teaming type '{}'"))]
    pub kind: TeamingKind,
    /// Alias of the half that stays.
    #[xml(attr)]
    pub persistent: Option<String>,
}

/// Socket buffer of a tap.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Tune {
    #[xml(leaf)]
    pub sndbuf: Option<u64>,
}

/// Packets gathered before the guest is told.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Coalesce {
    #[xml(child)]
    pub rx: CoalesceRx,
}

/// Received packets gathered before the guest is told.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CoalesceRx {
    #[xml(
        attr = "frames@max",
        loose,
        say(XmlDetail, "cannot parse value '{}' for coalesce parameter", None)
    )]
    pub frames: Option<u32>,
}
