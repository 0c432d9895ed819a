//! Guests saved into files of the host, and brought back.

use virt_api::domain::v1alpha1::{DefineImageXmlRequest, GetImageXmlRequest, RestoreRequest, SaveRequest};
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
