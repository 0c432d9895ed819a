//! Network cards that QEMU cannot have.

use virt_error::Result;
use virt_model::domain::info::each;

use super::{Checker, unsupported};
use crate::document::types::{Interface, NetBackendKind, NetSource, TeamingKind};

impl Checker<'_> {
    pub(super) fn network(&self) -> Result<()> {
        each(&self.def.devices.interfaces, |net| self.card(net))
    }

    fn card(&self, net: &Interface) -> Result<()> {
        let model = net.model.as_deref().unwrap_or("virtio");
        let virtio = model.starts_with("virtio");
        match &net.source {
            NetSource::VhostUser(_) => {
                user(net)?;
                if !self.shares_memory() {
                    return Err(unsupported("'interface' requires shared memory"));
                }
                if !virtio {
                    return Err(unsupported(
                        "Wrong or no <model> 'type' attribute specified with <interface type='vhostuser'/>. vhostuser requires the virtio-net* frontend",
                    ));
                }
            }
            NetSource::Vdpa(_) if !virtio => {
                let model = net.model.as_deref().unwrap_or_default();
                return Err(unsupported(format!(
                    "invalid model for interface of type 'vdpa': '{model}' - must be 'virtio'"
                )));
            }
            NetSource::User(_) => user(net)?,
            _ => {}
        }
        self.switch_settings(net)?;
        if net.target_managed == Some(false) && !matches!(net.source, NetSource::Ethernet(_)) {
            let kind = net.source.tag();
            let text = format!("unmanaged target dev is not supported on interfaces of type '{kind}'");
            return Err(unsupported(text));
        }
        if net.teaming.as_ref().is_some_and(|t| t.kind == TeamingKind::Persistent) && !virtio {
            return Err(unsupported(format!(
                "virtio-net failover (teaming) interface must use the virtio model, not '{model}'"
            )));
        }
        let d = &net.driver;
        for (name, size) in [("rx_queue_size", d.rx_queue_size), ("tx_queue_size", d.tx_queue_size)] {
            if size.is_some_and(|s| s != 0 && !s.is_power_of_two()) {
                return Err(unsupported(format!("{name} has to be a power of two")));
            }
        }
        if net.mtu.is_some()
            && !matches!(
                net.source,
                NetSource::Network(_)
                    | NetSource::Bridge(_)
                    | NetSource::Ethernet(_)
                    | NetSource::VhostUser(_)
            )
            && !(matches!(net.source, NetSource::User(_)) && net.backend.kind == Some(NetBackendKind::Passt))
        {
            let kind = net.source.tag();
            return Err(unsupported(format!("setting MTU on interface type {kind} is not supported yet")));
        }
        Ok(())
    }

    /// What only cards on a bridge, a network or a physical card can be told.
    fn switch_settings(&self, net: &Interface) -> Result<()> {
        let kind = net.source.tag();
        let network = matches!(net.source, NetSource::Network(_));
        let bridged = network || matches!(net.source, NetSource::Bridge(_));
        let user = matches!(net.source, NetSource::User(_) | NetSource::VhostUser(_));
        if !user && !net.ips.is_empty() {
            return Err(unsupported(
                "Invalid attempt to set network interface guest-side IP address info, not supported by QEMU",
            ));
        }
        // A document is refused when it is read; this is for a limit that is set later.
        let rates = net.bandwidth.iter().flat_map(|b| b.inbound.iter().chain(&b.outbound));
        if !network && rates.into_iter().any(|r| r.floor.is_some()) {
            return Err(unsupported("floor attribute is not supported for this config"));
        }
        if net.coalesce.is_some() && !bridged {
            let text = format!("coalesce settings on interface type {kind} are not supported");
            return Err(unsupported(text));
        }
        Ok(())
    }
}

/// Addresses of a guest behind a program that plays the network.
fn user(net: &Interface) -> Result<()> {
    let six = |a: &crate::document::types::IpAddress| {
        a.family.as_deref() == Some("ipv6") || a.address.as_deref().is_some_and(|a| a.contains(':'))
    };
    let count = net.ips.iter().filter(|a| six(a)).count();
    if count > 1 || net.ips.len() - count > 1 {
        let kind = if count > 1 { "IPv6" } else { "IPv4" };
        return Err(unsupported(format!("Only one {kind} address per interface is allowed")));
    }
    if !net.routes.is_empty() {
        return Err(unsupported(
            "Invalid attempt to set network interface guest-side IP route, not supported by QEMU",
        ));
    }
    Ok(())
}
