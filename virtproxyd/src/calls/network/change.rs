//! Definition and life cycle of networks.

use virt_api::network::v1alpha1::*;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Networks, only, to_ref, to_wire};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::NetworkDefineXml => define;
    ask procs::NetworkDefineXmlFlags => define_flags;
    ask procs::NetworkCreateXml => create_xml;
    ask procs::NetworkCreateXmlFlags => create_xml_flags;
    ask procs::NetworkCreate => start;
    ask procs::NetworkDestroy => destroy;
    ask procs::NetworkUndefine => undefine;
    ask procs::NetworkUpdate => update;
    ask procs::NetworkSetAutostart => set_autostart;
    ask procs::NetworkSetMetadata => set_metadata;
    ask procs::NetworkGetMetadata => get_metadata;
};

async fn define_any(c: Ctx, xml: String, flags: u32) -> Result<NonnullNetwork> {
    to_wire(rpc!(c, Network: Networks.define(DefineRequest { xml, flags })).await?.network)
}

async fn define(c: Ctx, a: NetworkDefineXmlArgs) -> Result<NetworkDefineXmlRet> {
    Ok(NetworkDefineXmlRet { net: define_any(c, a.xml, 0).await? })
}

async fn define_flags(c: Ctx, a: NetworkDefineXmlFlagsArgs) -> Result<NetworkDefineXmlFlagsRet> {
    Ok(NetworkDefineXmlFlagsRet { net: define_any(c, a.xml, a.flags).await? })
}

async fn create_any(c: Ctx, xml: String, flags: u32) -> Result<NonnullNetwork> {
    to_wire(rpc!(c, Network: Networks.create(CreateRequest { xml, flags })).await?.network)
}

async fn create_xml(c: Ctx, a: NetworkCreateXmlArgs) -> Result<NetworkCreateXmlRet> {
    Ok(NetworkCreateXmlRet { net: create_any(c, a.xml, 0).await? })
}

async fn create_xml_flags(c: Ctx, a: NetworkCreateXmlFlagsArgs) -> Result<NetworkCreateXmlFlagsRet> {
    Ok(NetworkCreateXmlFlagsRet { net: create_any(c, a.xml, a.flags).await? })
}

async fn start(c: Ctx, a: NetworkCreateArgs) -> Result<()> {
    rpc!(c, Network: Networks.start(only(a.net))).await?;
    Ok(())
}

async fn destroy(c: Ctx, a: NetworkDestroyArgs) -> Result<()> {
    rpc!(c, Network: Networks.destroy(only(a.net))).await?;
    Ok(())
}

async fn undefine(c: Ctx, a: NetworkUndefineArgs) -> Result<()> {
    rpc!(c, Network: Networks.undefine(only(a.net))).await?;
    Ok(())
}

async fn update(c: Ctx, a: NetworkUpdateArgs) -> Result<()> {
    let request = UpdateRequest {
        network: to_ref(a.net),
        command: a.command,
        section: a.section,
        parent_index: a.parent_index,
        xml: a.xml,
        flags: a.flags,
    };
    rpc!(c, Network: Networks.update(request)).await?;
    Ok(())
}

async fn set_autostart(c: Ctx, a: NetworkSetAutostartArgs) -> Result<()> {
    let request = SetAutostartRequest { network: to_ref(a.net), autostart: a.autostart != 0 };
    rpc!(c, Network: Networks.set_autostart(request)).await?;
    Ok(())
}

async fn get_metadata(c: Ctx, a: NetworkGetMetadataArgs) -> Result<NetworkGetMetadataRet> {
    let request =
        GetMetadataRequest { network: to_ref(a.network), r#type: a.r#type, uri: a.uri, flags: a.flags };
    Ok(NetworkGetMetadataRet { metadata: rpc!(c, Network: Networks.get_metadata(request)).await?.metadata })
}

async fn set_metadata(c: Ctx, a: NetworkSetMetadataArgs) -> Result<()> {
    let request = SetMetadataRequest {
        network: to_ref(a.network),
        r#type: a.r#type,
        metadata: a.metadata,
        key: a.key,
        uri: a.uri,
        flags: a.flags,
    };
    rpc!(c, Network: Networks.set_metadata(request)).await?;
    Ok(())
}
