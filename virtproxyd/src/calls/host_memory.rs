//! The node's memory.

use virt_api::host::v1alpha1::{
    CellsFreeMemoryRequest, Empty, FlagsRequest, FreePagesRequest, NodeStatsRequest,
    SetMemoryParametersRequest, host_service_client::HostServiceClient as Host,
};
use virt_error::{Domain, Error, Result};
use virt_wire::remote::{procs, *};

use super::{Call, Ctx, calls, rpc};
use crate::{params, refusal};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::NodeGetFreeMemory => free;
    ask procs::NodeGetCellsFreeMemory => cells_free;
    ask procs::NodeGetFreePages => free_pages;
    ask procs::NodeGetMemoryStats => stats;
    ask procs::NodeGetMemoryParameters => parameters;
    ask procs::NodeSetMemoryParameters => set_parameters;
};

async fn free(c: Ctx, (): ()) -> Result<NodeGetFreeMemoryRet> {
    Ok(NodeGetFreeMemoryRet { free_mem: rpc!(c, Host.get_free_memory(Empty {})).await?.free })
}

async fn cells_free(c: Ctx, a: NodeGetCellsFreeMemoryArgs) -> Result<NodeGetCellsFreeMemoryRet> {
    let start = u32::try_from(a.start_cell).map_err(|_| {
        let function = "virNodeGetCellsFreeMemory";
        let text = format!("startCell in {function} must be zero or greater");
        Error::invalid_arg(Domain::Domain, function, "startCell", text)
    })?;
    let max = refusal::size("maxcells", a.maxcells, NODE_MAX_CELLS, "REMOTE_NODE_MAX_CELLS", refusal::rpc)?;
    let mut cells = rpc!(c, Host.get_cells_free_memory(CellsFreeMemoryRequest { start, max })).await?.cells;
    cells.truncate(max as usize);
    Ok(NodeGetCellsFreeMemoryRet { cells })
}

async fn free_pages(c: Ctx, a: NodeGetFreePagesArgs) -> Result<NodeGetFreePagesRet> {
    if u64::from(a.cell_count) * a.pages.len() as u64 > u64::from(NODE_MAX_CELLS) {
        return Err(refusal::internal("the result won't fit into REMOTE_NODE_MAX_CELLS"));
    }
    let (start_cell, cell_count) = (a.start_cell, a.cell_count);
    let request = FreePagesRequest { pages: a.pages, start_cell, cell_count, flags: a.flags };
    Ok(NodeGetFreePagesRet { counts: rpc!(c, Host.get_free_pages(request)).await?.counts })
}

async fn stats(c: Ctx, a: NodeGetMemoryStatsArgs) -> Result<NodeGetMemoryStatsRet> {
    params::room_of(a.nparams, NODE_MEMORY_STATS_MAX)?;
    let request = NodeStatsRequest { which: a.cell_num, flags: a.flags };
    let stats = rpc!(c, Host.get_memory_stats(request)).await?.stats.into_iter();
    let stats = stats.map(|s| NodeGetMemoryStats { field: s.field, value: s.value }).collect();
    let (params, nparams) = params::sized(stats, a.nparams, NODE_MEMORY_STATS_MAX)?;
    Ok(NodeGetMemoryStatsRet { params, nparams })
}

async fn parameters(c: Ctx, a: NodeGetMemoryParametersArgs) -> Result<NodeGetMemoryParametersRet> {
    params::room_of(a.nparams, NODE_MEMORY_PARAMETERS_MAX)?;
    let found = rpc!(c, Host.get_memory_parameters(FlagsRequest { flags: a.flags })).await?.params;
    let found = params::to_wire(found);
    let (params, nparams) = params::sized(found, a.nparams, NODE_MEMORY_PARAMETERS_MAX)?;
    Ok(NodeGetMemoryParametersRet { params, nparams })
}

async fn set_parameters(c: Ctx, a: NodeSetMemoryParametersArgs) -> Result<()> {
    let request = SetMemoryParametersRequest { params: params::to_rpc(a.params), flags: a.flags };
    rpc!(c, Host.set_memory_parameters(request)).await?;
    Ok(())
}
