//! Ports: the places guests' cards hold in networks.

use bytes::Bytes;
use virt_api::network::v1alpha1::{
    CreatePortRequest, ListPortsRequest, Port, PortRequest, SetPortParametersRequest,
};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, malformed, rpc};
use super::{Networks, to_ref, to_wire};
use crate::{params, refusal};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::NetworkListAllPorts => list;
    ask procs::NetworkPortLookupByUuid => by_uuid;
    ask procs::NetworkPortCreateXml => create;
    ask procs::NetworkPortGetXmlDesc => get_xml;
    ask procs::NetworkPortDelete => delete;
    ask procs::NetworkPortGetParameters => get_parameters;
    ask procs::NetworkPortSetParameters => set_parameters;
};

fn port_to_wire(port: Port) -> Result<NonnullNetworkPort> {
    let uuid = port.uuid.as_ref().try_into().map_err(|_| malformed("port's UUID"))?;
    Ok(NonnullNetworkPort { net: to_wire(port.network)?, uuid })
}

fn request(port: NonnullNetworkPort) -> PortRequest {
    PortRequest { network: to_ref(port.net), port_uuid: Bytes::copy_from_slice(&port.uuid) }
}

async fn list(c: Ctx, a: NetworkListAllPortsArgs) -> Result<NetworkListAllPortsRet> {
    let found =
        rpc!(c, Network: Networks.list_ports(ListPortsRequest { network: to_ref(a.network) })).await?.ports;
    let ret = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let wanted = if a.need_results == 0 { Vec::new() } else { found };
    Ok(NetworkListAllPortsRet { ports: wanted.into_iter().map(port_to_wire).collect::<Result<_>>()?, ret })
}

async fn by_uuid(c: Ctx, a: NetworkPortLookupByUuidArgs) -> Result<NetworkPortLookupByUuidRet> {
    let port = request(NonnullNetworkPort { net: a.network, uuid: a.uuid });
    Ok(NetworkPortLookupByUuidRet { port: port_to_wire(rpc!(c, Network: Networks.get_port(port)).await?)? })
}

async fn create(c: Ctx, a: NetworkPortCreateXmlArgs) -> Result<NetworkPortCreateXmlRet> {
    let request = CreatePortRequest { network: to_ref(a.network), xml: a.xml, flags: a.flags };
    Ok(NetworkPortCreateXmlRet {
        port: port_to_wire(rpc!(c, Network: Networks.create_port(request)).await?)?,
    })
}

async fn get_xml(c: Ctx, a: NetworkPortGetXmlDescArgs) -> Result<NetworkPortGetXmlDescRet> {
    Ok(NetworkPortGetXmlDescRet { xml: rpc!(c, Network: Networks.get_port(request(a.port))).await?.xml })
}

async fn delete(c: Ctx, a: NetworkPortDeleteArgs) -> Result<()> {
    rpc!(c, Network: Networks.delete_port(request(a.port))).await?;
    Ok(())
}

async fn get_parameters(c: Ctx, a: NetworkPortGetParametersArgs) -> Result<NetworkPortGetParametersRet> {
    refusal::no_flags(a.flags, "networkPortGetParameters")?;
    let found = rpc!(c, Network: Networks.get_port_parameters(request(a.port))).await?.parameters;
    let (params, nparams) = params::sized(params::to_wire(found), a.nparams, NETWORK_PORT_PARAMETERS_MAX)?;
    Ok(NetworkPortGetParametersRet { params, nparams })
}

async fn set_parameters(c: Ctx, a: NetworkPortSetParametersArgs) -> Result<()> {
    refusal::no_flags(a.flags, "networkPortSetParameters")?;
    let PortRequest { network, port_uuid } = request(a.port);
    let request = SetPortParametersRequest { network, port_uuid, parameters: params::to_rpc(a.params) };
    rpc!(c, Network: Networks.set_port_parameters(request)).await?;
    Ok(())
}
