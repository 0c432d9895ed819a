//! Calls about the host's interfaces.

use virt_api::interface::v1alpha1::interface_service_client::InterfaceServiceClient as Interfaces;
use virt_api::interface::v1alpha1::*;
use virt_consts::{VIR_CONNECT_LIST_INTERFACES_ACTIVE, VIR_CONNECT_LIST_INTERFACES_INACTIVE};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::{Call, Ctx, calls, malformed, rpc};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::ConnectNumOfInterfaces => num_active;
    ask procs::ConnectListInterfaces => list_active;
    ask procs::ConnectNumOfDefinedInterfaces => num_defined;
    ask procs::ConnectListDefinedInterfaces => list_defined;
    ask procs::ConnectListAllInterfaces => list_all;
    ask procs::InterfaceLookupByName => by_name;
    ask procs::InterfaceLookupByMacString => by_mac;
    ask procs::InterfaceGetXmlDesc => get_xml;
    ask procs::InterfaceDefineXml => define;
    ask procs::InterfaceUndefine => undefine;
    ask procs::InterfaceCreate => create;
    ask procs::InterfaceDestroy => destroy;
    ask procs::InterfaceIsActive => is_active;
    ask procs::InterfaceChangeBegin => begin;
    ask procs::InterfaceChangeCommit => commit;
    ask procs::InterfaceChangeRollback => rollback;
};

fn to_wire(of: Interface) -> NonnullInterface {
    NonnullInterface { name: of.name, mac: of.mac }
}

fn first(answer: InterfaceResponse) -> Result<Interface> {
    answer.interfaces.into_iter().next().ok_or_else(|| malformed("interface"))
}

async fn list(c: Ctx, filter: u32, count_only: bool) -> Result<ListResponse> {
    rpc!(c, Interface: Interfaces.list(ListRequest { filter, count_only })).await
}

async fn number(c: Ctx, filter: u32) -> Result<i32> {
    Ok(i32::try_from(list(c, filter, true).await?.count).unwrap_or(i32::MAX))
}

async fn names(c: Ctx, filter: u32, most: i32) -> Result<Vec<String>> {
    let found = list(c, filter, false).await?.interfaces.into_iter().map(|i| i.name);
    Ok(found.take(usize::try_from(most).unwrap_or(0)).collect())
}

async fn num_active(c: Ctx, (): ()) -> Result<ConnectNumOfInterfacesRet> {
    Ok(ConnectNumOfInterfacesRet { num: number(c, VIR_CONNECT_LIST_INTERFACES_ACTIVE).await? })
}

async fn num_defined(c: Ctx, (): ()) -> Result<ConnectNumOfDefinedInterfacesRet> {
    Ok(ConnectNumOfDefinedInterfacesRet { num: number(c, VIR_CONNECT_LIST_INTERFACES_INACTIVE).await? })
}

async fn list_active(c: Ctx, a: ConnectListInterfacesArgs) -> Result<ConnectListInterfacesRet> {
    Ok(ConnectListInterfacesRet { names: names(c, VIR_CONNECT_LIST_INTERFACES_ACTIVE, a.maxnames).await? })
}

async fn list_defined(
    c: Ctx,
    a: ConnectListDefinedInterfacesArgs,
) -> Result<ConnectListDefinedInterfacesRet> {
    let names = names(c, VIR_CONNECT_LIST_INTERFACES_INACTIVE, a.maxnames).await?;
    Ok(ConnectListDefinedInterfacesRet { names })
}

async fn list_all(c: Ctx, a: ConnectListAllInterfacesArgs) -> Result<ConnectListAllInterfacesRet> {
    let found = list(c, a.flags, a.need_results == 0).await?;
    let ifaces = found.interfaces.into_iter().map(to_wire).collect();
    Ok(ConnectListAllInterfacesRet { ifaces, ret: found.count })
}

async fn get(c: Ctx, by: get_request::By) -> Result<Interface> {
    first(rpc!(c, Interface: Interfaces.get(GetRequest { by: Some(by) })).await?)
}

async fn by_name(c: Ctx, a: InterfaceLookupByNameArgs) -> Result<InterfaceLookupByNameRet> {
    Ok(InterfaceLookupByNameRet { iface: to_wire(get(c, get_request::By::Name(a.name)).await?) })
}

async fn by_mac(c: Ctx, a: InterfaceLookupByMacStringArgs) -> Result<InterfaceLookupByMacStringRet> {
    Ok(InterfaceLookupByMacStringRet { iface: to_wire(get(c, get_request::By::Mac(a.mac)).await?) })
}

async fn is_active(c: Ctx, a: InterfaceIsActiveArgs) -> Result<InterfaceIsActiveRet> {
    Ok(InterfaceIsActiveRet { active: get(c, get_request::By::Name(a.iface.name)).await?.active.into() })
}

async fn get_xml(c: Ctx, a: InterfaceGetXmlDescArgs) -> Result<InterfaceGetXmlDescRet> {
    let request = GetXmlRequest { name: a.iface.name, flags: a.flags };
    Ok(InterfaceGetXmlDescRet { xml: rpc!(c, Interface: Interfaces.get_xml(request)).await?.xml })
}

async fn define(c: Ctx, a: InterfaceDefineXmlArgs) -> Result<InterfaceDefineXmlRet> {
    let request = DefineRequest { xml: a.xml, flags: a.flags };
    Ok(InterfaceDefineXmlRet {
        iface: to_wire(first(rpc!(c, Interface: Interfaces.define(request)).await?)?),
    })
}

async fn undefine(c: Ctx, a: InterfaceUndefineArgs) -> Result<()> {
    rpc!(c, Interface: Interfaces.undefine(InterfaceRequest { name: a.iface.name })).await?;
    Ok(())
}

async fn create(c: Ctx, a: InterfaceCreateArgs) -> Result<()> {
    let request = ChangeStateRequest { name: a.iface.name, flags: a.flags };
    rpc!(c, Interface: Interfaces.start(request)).await?;
    Ok(())
}

async fn destroy(c: Ctx, a: InterfaceDestroyArgs) -> Result<()> {
    let request = ChangeStateRequest { name: a.iface.name, flags: a.flags };
    rpc!(c, Interface: Interfaces.destroy(request)).await?;
    Ok(())
}

async fn begin(c: Ctx, a: InterfaceChangeBeginArgs) -> Result<()> {
    rpc!(c, Interface: Interfaces.change_begin(ChangeRequest { flags: a.flags })).await?;
    Ok(())
}

async fn commit(c: Ctx, a: InterfaceChangeCommitArgs) -> Result<()> {
    rpc!(c, Interface: Interfaces.change_commit(ChangeRequest { flags: a.flags })).await?;
    Ok(())
}

async fn rollback(c: Ctx, a: InterfaceChangeRollbackArgs) -> Result<()> {
    rpc!(c, Interface: Interfaces.change_rollback(ChangeRequest { flags: a.flags })).await?;
    Ok(())
}
