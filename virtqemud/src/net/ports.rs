//! Places in networks: virtnetworkd gives them out and takes them back.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use virt_api::network::v1alpha1::network_service_client::NetworkServiceClient;
use virt_api::network::v1alpha1::{
    CreatePortRequest, DhcpLease, GetDhcpLeasesRequest, GetXmlRequest, NetworkRef, PortRequest,
};
use virt_consts::VIR_NETWORK_PORT_CREATE_RECLAIM;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::actual::{Actual, ActualKind, ActualSource};
use virt_model::domain::interface::{HostdevNetAddress, Interface, NetSource, NetworkNet};
use virt_model::network::Network;
use virt_model::network::forwarding::PortForwards;
use virt_model::network::port::{BridgePlug, DirectPlug, HostdevPlug, NetworkPort, Plug, PortOwner};
use virt_rpc::client::Daemon;
use virt_rpc::{client, from_status};

/// How long virtnetworkd may take for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who gives out places.
const DAEMON: &str = "virtnetworkd";

/// virtnetworkd as this daemon sees it, and who filters what its cards send.
pub struct Networks {
    sockets: PathBuf,
    daemon: OnceLock<Daemon>,
    filters: OnceLock<Daemon>,
}

impl Networks {
    /// The daemon whose sockets are in `sockets`; it is reached when the first card needs it.
    pub fn new(sockets: PathBuf) -> Self {
        Self { sockets, daemon: OnceLock::new(), filters: OnceLock::new() }
    }

    /// The connection.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.get_or_init(|| Daemon::new(&self.sockets, DAEMON))
    }

    /// The daemon of network filters, reached when the first card has one.
    pub(super) fn filters(&self) -> &Daemon {
        self.filters.get_or_init(|| Daemon::new(&self.sockets, "virtnwfilterd"))
    }

    /// Takes a place for a card that names a network and a port of its own choice.
    ///
    /// # Errors
    /// Code 43 without such a network, code 55 when it is not active, code 38 when the daemon is not reached.
    pub async fn take(&self, card: &Interface, owner: &PortOwner) -> Result<Actual> {
        let (network, port) = describe(card, owner)?;
        self.create(network, &port, 0).await
    }

    /// Makes the place known again of a card that is plugged already; the network may have forgotten it.
    ///
    /// # Errors
    /// As [`Networks::take`].
    pub async fn reclaim(&self, card: &Interface, owner: &PortOwner) -> Result<()> {
        let (network, mut port) = describe(card, owner)?;
        port.plug = card.actual.as_ref().and_then(plug_of);
        let made = self.create(network, &port, VIR_NETWORK_PORT_CREATE_RECLAIM).await;
        match made {
            Err(e) if e.code() != Code::NetworkPortExist => Err(e),
            _ => Ok(()),
        }
    }

    async fn create(&self, network: &str, port: &NetworkPort, flags: u32) -> Result<Actual> {
        let mut client = client!(NetworkServiceClient, self.daemon());
        let request = CreatePortRequest { network: by_name(network), xml: port.format(), flags };
        let made =
            bounded(DAEMON, async { client.create_port(request).await.map_err(|s| from_status(&s)) }).await?;
        actual(NetworkPort::parse(&made.into_inner().xml)?)
    }

    /// Whether a network knows a place.
    ///
    /// # Errors
    /// Those of reaching the daemon.
    pub async fn knows(&self, network: &str, port: Uuid) -> Result<bool> {
        let mut client = client!(NetworkServiceClient, self.daemon());
        let request = PortRequest { network: by_name(network), port_uuid: bytes(port) };
        match bounded(DAEMON, async { client.get_port(request).await.map_err(|s| from_status(&s)) }).await {
            Ok(_) => Ok(true),
            Err(e) if e.code() == Code::NoNetworkPort => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What a network has leased to a hardware address.
    ///
    /// # Errors
    /// Those of reaching the daemon; code 43 when the network is gone.
    pub async fn leases(&self, network: &str, mac: &str) -> Result<Vec<DhcpLease>> {
        let mut client = client!(NetworkServiceClient, self.daemon());
        let request = GetDhcpLeasesRequest { network: by_name(network), mac: Some(mac.into()), flags: 0 };
        let told =
            bounded(DAEMON, async { client.get_dhcp_leases(request).await.map_err(|s| from_status(&s)) });
        Ok(told.await?.into_inner().leases)
    }

    /// The host's own address in a network, where consoles of guests may listen.
    ///
    /// # Errors
    /// Code 43 without such a network, code 1 when it has no address; those of reaching the daemon.
    pub async fn host_address(&self, network: &str) -> Result<String> {
        let mut client = client!(NetworkServiceClient, self.daemon());
        let request = GetXmlRequest { network: by_name(network), flags: 0 };
        let told =
            bounded(DAEMON, async { client.get_xml(request).await.map_err(|s| from_status(&s)) }).await?;
        let document = Network::parse(&told.into_inner().xml, Mode::LIVE)?;
        let first = document.ips.first().map(|ip| ip.address.to_string());
        first.ok_or_else(|| {
            Error::internal(From::Network, format!("network '{network}' doesn't have an IP address"))
        })
    }

    /// Gives a place back. One that is gone is no error.
    ///
    /// # Errors
    /// Those of reaching the daemon.
    pub async fn give_back(&self, network: &str, port: Uuid) -> Result<()> {
        let mut client = client!(NetworkServiceClient, self.daemon());
        let request = PortRequest { network: by_name(network), port_uuid: bytes(port) };
        match bounded(DAEMON, async { client.delete_port(request).await.map_err(|s| from_status(&s)) }).await
        {
            Err(e) if !matches!(e.code(), Code::NoNetworkPort | Code::NoNetwork) => Err(e),
            _ => Ok(()),
        }
    }
}

fn by_name(network: &str) -> Option<NetworkRef> {
    Some(NetworkRef { name: network.to_string(), ..NetworkRef::default() })
}

fn bytes(port: Uuid) -> Bytes {
    Bytes::copy_from_slice(port.as_bytes())
}

pub(super) async fn bounded<T>(daemon: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = format!("{daemon} did not answer in time");
            Err(Error::new(Code::OperationTimeout, From::Network, text))
        }
    }
}

fn describe<'a>(card: &'a Interface, owner: &PortOwner) -> Result<(&'a str, NetworkPort)> {
    let NetSource::Network(NetworkNet { network: Some(network), portgroup, port_id, .. }) = &card.source
    else {
        return Err(Error::internal(From::Qemu, "a card without a network asks for a port"));
    };
    let port = NetworkPort {
        uuid: *port_id,
        owner: owner.clone(),
        group: portgroup.clone(),
        mac: card.mac.as_ref().and_then(|m| m.address),
        trust_guest_rx_filters: card.trust_guest_rx_filters,
        isolated: card.isolated,
        plug: None,
        vlan: card.vlan.clone(),
        virtualport: card.virtualport.clone(),
        bandwidth: card.bandwidth.clone(),
        forwards: PortForwards::default(),
    };
    Ok((network, port))
}

fn actual(port: NetworkPort) -> Result<Actual> {
    let mut managed = None;
    let (kind, source) = match port.plug {
        Some(Plug::Network(b)) => (ActualKind::Network, bridge(b)),
        Some(Plug::Bridge(b)) => (ActualKind::Bridge, bridge(b)),
        Some(Plug::Direct(d)) => {
            let source = ActualSource { dev: Some(d.dev), mode: d.mode, ..ActualSource::default() };
            (ActualKind::Direct, source)
        }
        Some(Plug::HostdevPci(h)) => {
            managed = Some(h.managed == Some(true));
            let address = Some(HostdevNetAddress::Pci(h.address));
            (ActualKind::Hostdev, ActualSource { address, ..ActualSource::default() })
        }
        None => return Err(Error::internal(From::Network, "a network gave a port without a plug")),
    };
    Ok(Actual {
        kind: Some(kind),
        managed,
        source,
        vlan: port.vlan,
        virtualport: port.virtualport,
        bandwidth: port.bandwidth,
        isolated: port.isolated,
    })
}

fn bridge(plug: BridgePlug) -> ActualSource {
    ActualSource {
        bridge: Some(plug.bridge),
        mac_table_manager: plug.mac_table_manager,
        ..ActualSource::default()
    }
}

fn plug_of(actual: &Actual) -> Option<Plug> {
    let source = actual.source.clone();
    let bridge = || BridgePlug {
        bridge: source.bridge.clone().unwrap_or_default(),
        mac_table_manager: source.mac_table_manager,
    };
    Some(match actual.kind? {
        ActualKind::Network => Plug::Network(bridge()),
        ActualKind::Bridge => Plug::Bridge(bridge()),
        ActualKind::Direct => {
            Plug::Direct(DirectPlug { dev: source.dev.unwrap_or_default(), mode: source.mode })
        }
        ActualKind::Hostdev => {
            let Some(HostdevNetAddress::Pci(address)) = source.address else { return None };
            Plug::HostdevPci(HostdevPlug { managed: actual.managed, address, ..HostdevPlug::default() })
        }
    })
}
