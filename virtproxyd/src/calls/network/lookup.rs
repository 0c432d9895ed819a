//! Lists of networks, looking one up, and what is known of it.

use virt_api::network::v1alpha1::*;
use virt_consts::{VIR_CONNECT_LIST_NETWORKS_ACTIVE, VIR_CONNECT_LIST_NETWORKS_INACTIVE};
use virt_error::{Code, Domain, Error, Result};
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, count, rpc};
use super::{Networks, only, to_ref, to_wire};

pub(super) const CALLS: &[Call] = calls! {
    keep(Network) procs::ConnectListAllNetworks => list_all;
    keep(Network) procs::ConnectNumOfNetworks => num_active;
    keep(Network) procs::ConnectNumOfDefinedNetworks => num_defined;
    keep(Network) procs::ConnectListNetworks => list_active;
    keep(Network) procs::ConnectListDefinedNetworks => list_defined;
    keep(Network) procs::NetworkLookupByName => by_name;
    keep(Network) procs::NetworkLookupByUuid => by_uuid;
    ask procs::NetworkGetXmlDesc => get_xml;
    ask procs::NetworkGetBridgeName => bridge_name;
    keep(Network) procs::NetworkGetAutostart => get_autostart;
    keep(Network) procs::NetworkIsActive => is_active;
    keep(Network) procs::NetworkIsPersistent => is_persistent;
    ask procs::NetworkGetDhcpLeases => dhcp_leases;
};

async fn list_all(c: Ctx, a: ConnectListAllNetworksArgs) -> Result<ConnectListAllNetworksRet> {
    let request = ListRequest { filter: a.flags, count_only: a.need_results == 0 };
    let list = rpc!(c, Network: Networks.list(request)).await?;
    let nets = list.networks.into_iter().map(|n| to_wire(n.network)).collect::<Result<_>>()?;
    Ok(ConnectListAllNetworksRet { nets, ret: list.count })
}

async fn number(c: Ctx, filter: u32) -> Result<i32> {
    let list = rpc!(c, Network: Networks.list(ListRequest { filter, count_only: true })).await?;
    Ok(i32::try_from(list.count).unwrap_or(i32::MAX))
}

async fn names(c: Ctx, filter: u32, most: i32) -> Result<Vec<String>> {
    let list = rpc!(c, Network: Networks.list(ListRequest { filter, count_only: false })).await?;
    let names = list.networks.into_iter().filter_map(|n| Some(n.network?.name));
    Ok(names.take(usize::try_from(most).unwrap_or(0)).collect())
}

async fn num_active(c: Ctx, (): ()) -> Result<ConnectNumOfNetworksRet> {
    Ok(ConnectNumOfNetworksRet { num: number(c, VIR_CONNECT_LIST_NETWORKS_ACTIVE).await? })
}

async fn num_defined(c: Ctx, (): ()) -> Result<ConnectNumOfDefinedNetworksRet> {
    Ok(ConnectNumOfDefinedNetworksRet { num: number(c, VIR_CONNECT_LIST_NETWORKS_INACTIVE).await? })
}

async fn list_active(c: Ctx, a: ConnectListNetworksArgs) -> Result<ConnectListNetworksRet> {
    Ok(ConnectListNetworksRet { names: names(c, VIR_CONNECT_LIST_NETWORKS_ACTIVE, a.maxnames).await? })
}

async fn list_defined(c: Ctx, a: ConnectListDefinedNetworksArgs) -> Result<ConnectListDefinedNetworksRet> {
    let names = names(c, VIR_CONNECT_LIST_NETWORKS_INACTIVE, a.maxnames).await?;
    Ok(ConnectListDefinedNetworksRet { names })
}

async fn by_name(c: Ctx, a: NetworkLookupByNameArgs) -> Result<NetworkLookupByNameRet> {
    let network = Some(NetworkRef { name: a.name, ..Default::default() });
    let row = rpc!(c, Network: Networks.get(NetworkRequest { network })).await?;
    Ok(NetworkLookupByNameRet { net: to_wire(row.network)? })
}

async fn by_uuid(c: Ctx, a: NetworkLookupByUuidArgs) -> Result<NetworkLookupByUuidRet> {
    let request = only(NonnullNetwork { uuid: a.uuid, name: String::new() });
    let row = rpc!(c, Network: Networks.get(request)).await?;
    Ok(NetworkLookupByUuidRet { net: to_wire(row.network)? })
}

async fn get_xml(c: Ctx, a: NetworkGetXmlDescArgs) -> Result<NetworkGetXmlDescRet> {
    let request = GetXmlRequest { network: to_ref(a.net), flags: a.flags };
    Ok(NetworkGetXmlDescRet { xml: rpc!(c, Network: Networks.get_xml(request)).await?.xml })
}

async fn row(c: Ctx, net: NonnullNetwork) -> Result<Network> {
    rpc!(c, Network: Networks.get(only(net))).await
}

async fn bridge_name(c: Ctx, a: NetworkGetBridgeNameArgs) -> Result<NetworkGetBridgeNameRet> {
    let network = a.net.name.clone();
    let name = row(c, a.net).await?.bridge;
    if name.is_empty() {
        let text = format!("network '{network}' does not have a bridge name.");
        return Err(Error::internal(Domain::Network, text));
    }
    Ok(NetworkGetBridgeNameRet { name })
}

async fn get_autostart(c: Ctx, a: NetworkGetAutostartArgs) -> Result<NetworkGetAutostartRet> {
    Ok(NetworkGetAutostartRet { autostart: row(c, a.net).await?.autostart.into() })
}

async fn is_active(c: Ctx, a: NetworkIsActiveArgs) -> Result<NetworkIsActiveRet> {
    Ok(NetworkIsActiveRet { active: row(c, a.net).await?.active.into() })
}

async fn is_persistent(c: Ctx, a: NetworkIsPersistentArgs) -> Result<NetworkIsPersistentRet> {
    Ok(NetworkIsPersistentRet { persistent: row(c, a.net).await?.persistent.into() })
}

async fn dhcp_leases(c: Ctx, a: NetworkGetDhcpLeasesArgs) -> Result<NetworkGetDhcpLeasesRet> {
    let request = GetDhcpLeasesRequest { network: to_ref(a.net), mac: a.mac, flags: a.flags };
    let found = rpc!(c, Network: Networks.get_dhcp_leases(request)).await?.leases;
    let ret = u32::try_from(count(found.len())).unwrap_or(0);
    if found.len() > virt_wire::remote::NETWORK_DHCP_LEASES_MAX as usize {
        return Err(Error::new(Code::Rpc, Domain::Rpc, format!("too many leases: {ret}")));
    }
    let wire = |l: DhcpLease| NetworkDhcpLease {
        iface: l.interface,
        expirytime: l.expiry_time,
        r#type: l.r#type,
        mac: l.mac,
        iaid: l.iaid,
        ipaddr: l.ip_address,
        prefix: l.prefix,
        hostname: l.hostname,
        clientid: l.client_id,
    };
    let leases = if a.need_results == 0 { Vec::new() } else { found.into_iter().map(wire).collect() };
    Ok(NetworkGetDhcpLeasesRet { leases, ret })
}
