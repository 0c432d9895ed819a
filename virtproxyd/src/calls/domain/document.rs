//! A domain's document and what is made from it.

use virt_api::domain::v1alpha1::{GetXmlRequest, XmlToNativeRequest};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Domains, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetXmlDesc => xml;
    ask procs::ConnectDomainXmlToNative => to_native;
};

async fn xml(c: Ctx, a: DomainGetXmlDescArgs) -> Result<DomainGetXmlDescRet> {
    let request = GetXmlRequest { domain: to_ref(a.dom), flags: a.flags };
    Ok(DomainGetXmlDescRet { xml: rpc!(c, Domains.get_xml(request)).await?.xml })
}

async fn to_native(c: Ctx, a: ConnectDomainXmlToNativeArgs) -> Result<ConnectDomainXmlToNativeRet> {
    let request = XmlToNativeRequest { format: a.native_format, xml: a.domain_xml, flags: a.flags };
    Ok(ConnectDomainXmlToNativeRet { native_config: rpc!(c, Domains.xml_to_native(request)).await?.config })
}
