//! Guests saved into files of the host, and brought back.

use virt_api::domain::v1alpha1::{
    DefineImageXmlRequest, DefineManagedXmlRequest, GetImageXmlRequest, GetManagedXmlRequest,
    ManagedSaveRequest, RestoreRequest, SaveRequest,
};
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Saves, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainSave => save;
    ask procs::DomainSaveFlags => save_flags;
    ask procs::DomainRestore => restore;
    ask procs::DomainRestoreFlags => restore_flags;
    ask procs::DomainSaveImageGetXmlDesc => image_xml;
    ask procs::DomainSaveImageDefineXml => define_image_xml;
    ask procs::DomainManagedSave => managed_save;
    ask procs::DomainManagedSaveRemove => remove_managed_save;
    ask procs::DomainManagedSaveGetXmlDesc => managed_xml;
    ask procs::DomainManagedSaveDefineXml => define_managed_xml;
};

async fn save(c: Ctx, a: DomainSaveArgs) -> Result<()> {
    rpc!(c, Saves.save(SaveRequest { domain: to_ref(a.dom), to: a.to, xml: None, flags: 0 })).await?;
    Ok(())
}

async fn save_flags(c: Ctx, a: DomainSaveFlagsArgs) -> Result<()> {
    let request = SaveRequest { domain: to_ref(a.dom), to: a.to, xml: a.dxml, flags: a.flags };
    rpc!(c, Saves.save(request)).await?;
    Ok(())
}

async fn restore(c: Ctx, a: DomainRestoreArgs) -> Result<()> {
    rpc!(c, Saves.restore(RestoreRequest { from: a.from, xml: None, flags: 0 })).await?;
    Ok(())
}

async fn restore_flags(c: Ctx, a: DomainRestoreFlagsArgs) -> Result<()> {
    rpc!(c, Saves.restore(RestoreRequest { from: a.from, xml: a.dxml, flags: a.flags })).await?;
    Ok(())
}

async fn image_xml(c: Ctx, a: DomainSaveImageGetXmlDescArgs) -> Result<DomainSaveImageGetXmlDescRet> {
    let request = GetImageXmlRequest { file: a.file, flags: a.flags };
    Ok(DomainSaveImageGetXmlDescRet { xml: rpc!(c, Saves.get_image_xml(request)).await?.xml })
}

async fn define_image_xml(c: Ctx, a: DomainSaveImageDefineXmlArgs) -> Result<()> {
    let request = DefineImageXmlRequest { file: a.file, xml: a.dxml, flags: a.flags };
    rpc!(c, Saves.define_image_xml(request)).await?;
    Ok(())
}

async fn managed_save(c: Ctx, a: DomainManagedSaveArgs) -> Result<()> {
    rpc!(c, Saves.managed_save(ManagedSaveRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(())
}

async fn remove_managed_save(c: Ctx, a: DomainManagedSaveRemoveArgs) -> Result<()> {
    rpc!(c, Saves.remove_managed_save(ManagedSaveRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(())
}

async fn managed_xml(c: Ctx, a: DomainManagedSaveGetXmlDescArgs) -> Result<DomainManagedSaveGetXmlDescRet> {
    let request = GetManagedXmlRequest { domain: to_ref(a.dom), flags: a.flags };
    Ok(DomainManagedSaveGetXmlDescRet { xml: rpc!(c, Saves.get_managed_xml(request)).await?.xml })
}

async fn define_managed_xml(c: Ctx, a: DomainManagedSaveDefineXmlArgs) -> Result<()> {
    let xml = a.dxml.unwrap_or_default();
    let request = DefineManagedXmlRequest { domain: to_ref(a.dom), xml, flags: a.flags };
    rpc!(c, Saves.define_managed_xml(request)).await?;
    Ok(())
}
