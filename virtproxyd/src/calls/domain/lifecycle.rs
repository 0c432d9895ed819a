//! Define, start, pause, stop, remove.

use virt_api::domain::v1alpha1::{
    CreateRequest, DefineRequest, DestroyRequest, RebootRequest, RenameRequest, ResetRequest,
    SetAutostartRequest, SetLifecycleActionRequest, ShutdownRequest, StartRequest, UndefineRequest,
};
use virt_error::{Domain, Error, Result};
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Domains, only, to_ref, to_wire};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainDefineXml => define;
    ask procs::DomainDefineXmlFlags => define_flags;
    ask procs::DomainCreateXml => create_xml;
    ask procs::DomainCreate => create;
    ask procs::DomainCreateWithFlags => create_flags;
    ask procs::DomainUndefine => undefine;
    ask procs::DomainUndefineFlags => undefine_flags;
    ask procs::DomainRename => rename;
    ask procs::DomainSuspend => suspend;
    ask procs::DomainResume => resume;
    ask procs::DomainShutdown => shutdown;
    ask procs::DomainShutdownFlags => shutdown_flags;
    ask procs::DomainReboot => reboot;
    ask procs::DomainReset => reset;
    ask procs::DomainDestroy => destroy;
    ask procs::DomainDestroyFlags => destroy_flags;
    ask procs::DomainSetAutostart => set_autostart;
    ask procs::DomainSetAutostartOnce => set_autostart_once;
    ask procs::DomainSetLifecycleAction => set_lifecycle_action;
};

async fn define_any(c: Ctx, xml: String, flags: u32) -> Result<NonnullDomain> {
    to_wire(rpc!(c, Domains.define(DefineRequest { xml, flags })).await?.domain)
}

async fn define(c: Ctx, a: DomainDefineXmlArgs) -> Result<DomainDefineXmlRet> {
    Ok(DomainDefineXmlRet { dom: define_any(c, a.xml, 0).await? })
}

async fn define_flags(c: Ctx, a: DomainDefineXmlFlagsArgs) -> Result<DomainDefineXmlFlagsRet> {
    Ok(DomainDefineXmlFlagsRet { dom: define_any(c, a.xml, a.flags).await? })
}

async fn create_xml(c: Ctx, a: DomainCreateXmlArgs) -> Result<DomainCreateXmlRet> {
    let request = CreateRequest { xml: a.xml_desc, flags: a.flags, files: Vec::new() };
    Ok(DomainCreateXmlRet { dom: to_wire(rpc!(c, Domains.create(request)).await?.domain)? })
}

async fn create(c: Ctx, a: DomainCreateArgs) -> Result<()> {
    rpc!(c, Domains.start(StartRequest { domain: to_ref(a.dom), flags: 0 })).await?;
    Ok(())
}

async fn create_flags(c: Ctx, a: DomainCreateWithFlagsArgs) -> Result<DomainCreateWithFlagsRet> {
    let started = rpc!(c, Domains.start(StartRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(DomainCreateWithFlagsRet { dom: to_wire(started.domain)? })
}

async fn undefine_any(c: Ctx, dom: NonnullDomain, flags: u32) -> Result<()> {
    rpc!(c, Domains.undefine(UndefineRequest { domain: to_ref(dom), flags })).await?;
    Ok(())
}

async fn undefine(c: Ctx, a: DomainUndefineArgs) -> Result<()> {
    undefine_any(c, a.dom, 0).await
}

async fn undefine_flags(c: Ctx, a: DomainUndefineFlagsArgs) -> Result<()> {
    undefine_any(c, a.dom, a.flags).await
}

async fn rename(c: Ctx, a: DomainRenameArgs) -> Result<DomainRenameRet> {
    let new_name = a.new_name.ok_or_else(|| {
        let function = "virDomainRename";
        Error::invalid_arg(
            Domain::Domain,
            function,
            "new_name",
            format!("new_name in {function} must not be NULL"),
        )
    })?;
    rpc!(c, Domains.rename(RenameRequest { domain: to_ref(a.dom), new_name, flags: a.flags })).await?;
    Ok(DomainRenameRet { retcode: 0 })
}

async fn suspend(c: Ctx, a: DomainSuspendArgs) -> Result<()> {
    rpc!(c, Domains.suspend(only(a.dom))).await?;
    Ok(())
}

async fn resume(c: Ctx, a: DomainResumeArgs) -> Result<()> {
    rpc!(c, Domains.resume(only(a.dom))).await?;
    Ok(())
}

async fn shutdown_any(c: Ctx, dom: NonnullDomain, flags: u32) -> Result<()> {
    rpc!(c, Domains.shutdown(ShutdownRequest { domain: to_ref(dom), flags })).await?;
    Ok(())
}

async fn shutdown(c: Ctx, a: DomainShutdownArgs) -> Result<()> {
    shutdown_any(c, a.dom, 0).await
}

async fn shutdown_flags(c: Ctx, a: DomainShutdownFlagsArgs) -> Result<()> {
    shutdown_any(c, a.dom, a.flags).await
}

async fn reboot(c: Ctx, a: DomainRebootArgs) -> Result<()> {
    rpc!(c, Domains.reboot(RebootRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(())
}

async fn reset(c: Ctx, a: DomainResetArgs) -> Result<()> {
    rpc!(c, Domains.reset(ResetRequest { domain: to_ref(a.dom), flags: a.flags })).await?;
    Ok(())
}

async fn destroy_any(c: Ctx, dom: NonnullDomain, flags: u32) -> Result<()> {
    rpc!(c, Domains.destroy(DestroyRequest { domain: to_ref(dom), flags })).await?;
    Ok(())
}

async fn destroy(c: Ctx, a: DomainDestroyArgs) -> Result<()> {
    destroy_any(c, a.dom, 0).await
}

async fn destroy_flags(c: Ctx, a: DomainDestroyFlagsArgs) -> Result<()> {
    destroy_any(c, a.dom, a.flags).await
}

async fn set_autostart(c: Ctx, a: DomainSetAutostartArgs) -> Result<()> {
    let request = SetAutostartRequest { domain: to_ref(a.dom), autostart: a.autostart != 0 };
    rpc!(c, Domains.set_autostart(request)).await?;
    Ok(())
}

async fn set_autostart_once(c: Ctx, a: DomainSetAutostartOnceArgs) -> Result<()> {
    let request = SetAutostartRequest { domain: to_ref(a.dom), autostart: a.autostart != 0 };
    rpc!(c, Domains.set_autostart_once(request)).await?;
    Ok(())
}

async fn set_lifecycle_action(c: Ctx, a: DomainSetLifecycleActionArgs) -> Result<()> {
    let domain = to_ref(a.dom);
    let request = SetLifecycleActionRequest { domain, r#type: a.r#type, action: a.action, flags: a.flags };
    rpc!(c, Domains.set_lifecycle_action(request)).await?;
    Ok(())
}
