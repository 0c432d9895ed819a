//! Definition and life cycle of storage pools.

use virt_api::storage::v1alpha1::*;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Pools, only, to_ref, to_wire};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::StoragePoolDefineXml => define;
    ask procs::StoragePoolCreateXml => create_xml;
    ask procs::StoragePoolCreate => start;
    ask procs::StoragePoolBuild => build;
    ask procs::StoragePoolDestroy => destroy;
    ask procs::StoragePoolDelete => delete;
    ask procs::StoragePoolUndefine => undefine;
    ask procs::StoragePoolRefresh => refresh;
    ask procs::StoragePoolSetAutostart => set_autostart;
};

async fn define(c: Ctx, a: StoragePoolDefineXmlArgs) -> Result<StoragePoolDefineXmlRet> {
    let request = DefinePoolRequest { xml: a.xml, flags: a.flags };
    Ok(StoragePoolDefineXmlRet { pool: to_wire(rpc!(c, Storage: Pools.define(request)).await?.pool)? })
}

async fn create_xml(c: Ctx, a: StoragePoolCreateXmlArgs) -> Result<StoragePoolCreateXmlRet> {
    let request = CreatePoolRequest { xml: a.xml, flags: a.flags };
    Ok(StoragePoolCreateXmlRet { pool: to_wire(rpc!(c, Storage: Pools.create(request)).await?.pool)? })
}

async fn start(c: Ctx, a: StoragePoolCreateArgs) -> Result<()> {
    let request = StartPoolRequest { pool: to_ref(a.pool), flags: a.flags };
    rpc!(c, Storage: Pools.start(request)).await?;
    Ok(())
}

async fn build(c: Ctx, a: StoragePoolBuildArgs) -> Result<()> {
    let request = BuildPoolRequest { pool: to_ref(a.pool), flags: a.flags };
    rpc!(c, Storage: Pools.build(request)).await?;
    Ok(())
}

async fn destroy(c: Ctx, a: StoragePoolDestroyArgs) -> Result<()> {
    rpc!(c, Storage: Pools.destroy(only(a.pool))).await?;
    Ok(())
}

async fn delete(c: Ctx, a: StoragePoolDeleteArgs) -> Result<()> {
    let request = DeletePoolRequest { pool: to_ref(a.pool), flags: a.flags };
    rpc!(c, Storage: Pools.delete(request)).await?;
    Ok(())
}

async fn undefine(c: Ctx, a: StoragePoolUndefineArgs) -> Result<()> {
    rpc!(c, Storage: Pools.undefine(only(a.pool))).await?;
    Ok(())
}

async fn refresh(c: Ctx, a: StoragePoolRefreshArgs) -> Result<()> {
    let request = RefreshPoolRequest { pool: to_ref(a.pool), flags: a.flags };
    rpc!(c, Storage: Pools.refresh(request)).await?;
    Ok(())
}

async fn set_autostart(c: Ctx, a: StoragePoolSetAutostartArgs) -> Result<()> {
    let request = SetPoolAutostartRequest { pool: to_ref(a.pool), autostart: a.autostart != 0 };
    rpc!(c, Storage: Pools.set_autostart(request)).await?;
    Ok(())
}
