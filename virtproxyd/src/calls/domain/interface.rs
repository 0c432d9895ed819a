//! Network cards of running guests.

use virt_api::domain::v1alpha1::InterfaceStatsRequest;
use virt_error::Result;
use virt_wire::remote::{procs, *};

use super::super::{Call, Ctx, calls, rpc};
use super::{Interfaces, to_ref};

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainInterfaceStats => stats;
};

async fn stats(c: Ctx, a: DomainInterfaceStatsArgs) -> Result<DomainInterfaceStatsRet> {
    let request = InterfaceStatsRequest { domain: to_ref(a.dom), device: a.device };
    let s = rpc!(c, Interfaces.get_stats(request)).await?;
    // What nobody counts is -1.
    let figure = |value: Option<u64>| value.map_or(-1, |v| i64::try_from(v).unwrap_or(i64::MAX));
    Ok(DomainInterfaceStatsRet {
        rx_bytes: figure(s.rx_bytes),
        rx_packets: figure(s.rx_packets),
        rx_errs: figure(s.rx_errors),
        rx_drop: figure(s.rx_dropped),
        tx_bytes: figure(s.tx_bytes),
        tx_packets: figure(s.tx_packets),
        tx_errs: figure(s.tx_errors),
        tx_drop: figure(s.tx_dropped),
    })
}
