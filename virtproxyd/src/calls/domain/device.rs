//! Attach, detach and change devices.

use virt_api::domain::v1alpha1::{DetachAliasRequest, DeviceRequest};
use virt_consts::VIR_DOMAIN_DEVICE_MODIFY_LIVE;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Devices, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainAttachDevice => attach;
    ask procs::DomainAttachDeviceFlags => attach_flags;
    ask procs::DomainDetachDevice => detach;
    ask procs::DomainDetachDeviceFlags => detach_flags;
    ask procs::DomainDetachDeviceAlias => detach_alias;
    ask procs::DomainUpdateDeviceFlags => update;
};

fn request(dom: NonnullDomain, xml: String, flags: u32) -> DeviceRequest {
    DeviceRequest { domain: to_ref(dom), xml, flags }
}

/// The form without flags means the running guest.
async fn attach(c: Ctx, a: DomainAttachDeviceArgs) -> Result<()> {
    rpc!(c, Devices.attach(request(a.dom, a.xml, VIR_DOMAIN_DEVICE_MODIFY_LIVE))).await?;
    Ok(())
}

async fn attach_flags(c: Ctx, a: DomainAttachDeviceFlagsArgs) -> Result<()> {
    rpc!(c, Devices.attach(request(a.dom, a.xml, a.flags))).await?;
    Ok(())
}

async fn detach(c: Ctx, a: DomainDetachDeviceArgs) -> Result<()> {
    rpc!(c, Devices.detach(request(a.dom, a.xml, VIR_DOMAIN_DEVICE_MODIFY_LIVE))).await?;
    Ok(())
}

async fn detach_flags(c: Ctx, a: DomainDetachDeviceFlagsArgs) -> Result<()> {
    rpc!(c, Devices.detach(request(a.dom, a.xml, a.flags))).await?;
    Ok(())
}

async fn detach_alias(c: Ctx, a: DomainDetachDeviceAliasArgs) -> Result<()> {
    let request = DetachAliasRequest { domain: to_ref(a.dom), alias: a.alias, flags: a.flags };
    rpc!(c, Devices.detach_alias(request)).await?;
    Ok(())
}

async fn update(c: Ctx, a: DomainUpdateDeviceFlagsArgs) -> Result<()> {
    rpc!(c, Devices.update(request(a.dom, a.xml, a.flags))).await?;
    Ok(())
}
