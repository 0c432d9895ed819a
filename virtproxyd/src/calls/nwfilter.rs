//! Calls about network filters and their bindings.

use bytes::Bytes;
use virt_api::nwfilter::v1alpha1::nwfilter_service_client::NwfilterServiceClient as Nwfilters;
use virt_api::nwfilter::v1alpha1::*;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::{Call, Ctx, calls, malformed, rpc};

pub(super) const CALLS: &[Call] = calls! {
    keep(Nwfilter) procs::ConnectNumOfNwfilters => count;
    keep(Nwfilter) procs::ConnectListNwfilters => names;
    keep(Nwfilter) procs::ConnectListAllNwfilters => list_all;
    keep(Nwfilter) procs::NwfilterLookupByName => by_name;
    keep(Nwfilter) procs::NwfilterLookupByUuid => by_uuid;
    ask procs::NwfilterGetXmlDesc => get_xml;
    ask procs::NwfilterDefineXml => define;
    ask procs::NwfilterDefineXmlFlags => define_flags;
    ask procs::NwfilterUndefine => undefine;
    ask procs::ConnectListAllNwfilterBindings => list_bindings;
    ask procs::NwfilterBindingLookupByPortDev => binding_by_port;
    ask procs::NwfilterBindingGetXmlDesc => binding_xml;
    ask procs::NwfilterBindingCreateXml => create_binding;
    ask procs::NwfilterBindingDelete => delete_binding;
};

/// A client's filter object in a request: the UUID decides.
fn to_ref(filter: NonnullNwfilter) -> Option<FilterRef> {
    Some(FilterRef { uuid: Bytes::copy_from_slice(&filter.uuid), name: filter.name })
}

/// A daemon's filter as clients get it.
fn to_wire(filter: Option<FilterRef>) -> Result<NonnullNwfilter> {
    let filter = filter.ok_or_else(|| malformed("filter"))?;
    let uuid = filter.uuid.as_ref().try_into().map_err(|_| malformed("filter's UUID"))?;
    Ok(NonnullNwfilter { name: filter.name, uuid })
}

fn binding_to_wire(binding: Binding) -> NonnullNwfilterBinding {
    NonnullNwfilterBinding { portdev: binding.port_dev, filtername: binding.filter }
}

async fn list(c: Ctx, flags: u32, count_only: bool) -> Result<ListResponse> {
    rpc!(c, Nwfilter: Nwfilters.list(ListRequest { flags, count_only })).await
}

async fn count(c: Ctx, (): ()) -> Result<ConnectNumOfNwfiltersRet> {
    let count = list(c, 0, true).await?.count;
    Ok(ConnectNumOfNwfiltersRet { num: i32::try_from(count).unwrap_or(i32::MAX) })
}

async fn names(c: Ctx, a: ConnectListNwfiltersArgs) -> Result<ConnectListNwfiltersRet> {
    let most = usize::try_from(a.maxnames).unwrap_or(0);
    let filters = list(c, 0, false).await?.filters;
    Ok(ConnectListNwfiltersRet { names: filters.into_iter().map(|f| f.name).take(most).collect() })
}

async fn list_all(c: Ctx, a: ConnectListAllNwfiltersArgs) -> Result<ConnectListAllNwfiltersRet> {
    let found = list(c, a.flags, a.need_results == 0).await?;
    let filters = found.filters.into_iter().map(|f| to_wire(Some(f))).collect::<Result<_>>()?;
    Ok(ConnectListAllNwfiltersRet { filters, ret: found.count })
}

async fn get(c: Ctx, filter: FilterRef) -> Result<NonnullNwfilter> {
    to_wire(rpc!(c, Nwfilter: Nwfilters.get(FilterRequest { filter: Some(filter) })).await?.filter)
}

async fn by_name(c: Ctx, a: NwfilterLookupByNameArgs) -> Result<NwfilterLookupByNameRet> {
    let nwfilter = get(c, FilterRef { name: a.name, ..Default::default() }).await?;
    Ok(NwfilterLookupByNameRet { nwfilter })
}

async fn by_uuid(c: Ctx, a: NwfilterLookupByUuidArgs) -> Result<NwfilterLookupByUuidRet> {
    let filter = FilterRef { uuid: Bytes::copy_from_slice(&a.uuid), ..Default::default() };
    Ok(NwfilterLookupByUuidRet { nwfilter: get(c, filter).await? })
}

async fn get_xml(c: Ctx, a: NwfilterGetXmlDescArgs) -> Result<NwfilterGetXmlDescRet> {
    let request = GetXmlRequest { filter: to_ref(a.nwfilter), flags: a.flags };
    Ok(NwfilterGetXmlDescRet { xml: rpc!(c, Nwfilter: Nwfilters.get_xml(request)).await?.xml })
}

async fn define_any(c: Ctx, xml: String, flags: u32) -> Result<NonnullNwfilter> {
    to_wire(rpc!(c, Nwfilter: Nwfilters.define(DefineRequest { xml, flags })).await?.filter)
}

async fn define(c: Ctx, a: NwfilterDefineXmlArgs) -> Result<NwfilterDefineXmlRet> {
    Ok(NwfilterDefineXmlRet { nwfilter: define_any(c, a.xml, 0).await? })
}

async fn define_flags(c: Ctx, a: NwfilterDefineXmlFlagsArgs) -> Result<NwfilterDefineXmlFlagsRet> {
    Ok(NwfilterDefineXmlFlagsRet { nwfilter: define_any(c, a.xml, a.flags).await? })
}

async fn undefine(c: Ctx, a: NwfilterUndefineArgs) -> Result<()> {
    rpc!(c, Nwfilter: Nwfilters.undefine(FilterRequest { filter: to_ref(a.nwfilter) })).await?;
    Ok(())
}

async fn list_bindings(
    c: Ctx,
    a: ConnectListAllNwfilterBindingsArgs,
) -> Result<ConnectListAllNwfilterBindingsRet> {
    let request = ListBindingsRequest { flags: a.flags, count_only: a.need_results == 0 };
    let found = rpc!(c, Nwfilter: Nwfilters.list_bindings(request)).await?;
    let bindings = found.bindings.into_iter().map(binding_to_wire).collect();
    Ok(ConnectListAllNwfilterBindingsRet { bindings, ret: found.count })
}

async fn binding_by_port(
    c: Ctx,
    a: NwfilterBindingLookupByPortDevArgs,
) -> Result<NwfilterBindingLookupByPortDevRet> {
    let request = BindingRequest { port_dev: a.name };
    let found = rpc!(c, Nwfilter: Nwfilters.get_binding(request)).await?;
    Ok(NwfilterBindingLookupByPortDevRet { nwfilter: binding_to_wire(found) })
}

async fn binding_xml(c: Ctx, a: NwfilterBindingGetXmlDescArgs) -> Result<NwfilterBindingGetXmlDescRet> {
    let request = GetBindingXmlRequest { port_dev: a.nwfilter.portdev, flags: a.flags };
    Ok(NwfilterBindingGetXmlDescRet { xml: rpc!(c, Nwfilter: Nwfilters.get_binding_xml(request)).await?.xml })
}

async fn create_binding(c: Ctx, a: NwfilterBindingCreateXmlArgs) -> Result<NwfilterBindingCreateXmlRet> {
    let request = CreateBindingRequest { xml: a.xml, flags: a.flags };
    let made = rpc!(c, Nwfilter: Nwfilters.create_binding(request)).await?;
    Ok(NwfilterBindingCreateXmlRet { nwfilter: binding_to_wire(made) })
}

async fn delete_binding(c: Ctx, a: NwfilterBindingDeleteArgs) -> Result<()> {
    let request = BindingRequest { port_dev: a.nwfilter.portdev };
    rpc!(c, Nwfilter: Nwfilters.delete_binding(request)).await?;
    Ok(())
}
