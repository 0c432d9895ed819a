//! Bringing interfaces up and down by netlink, where no tool of the host does. Blocking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use virt_error::{Code, Domain, Error, Result};
use virt_host::link::{self, Bridge, Port};
use virt_model::interface::{BondMode, Family, Interface, InterfaceKind, Stp};

/// Brings an interface up as its definition says; what was made for it is removed when a step fails.
///
/// # Errors
/// Code 38 with the kernel's reason, code 67 for what needs a tool.
pub fn up(of: &Interface) -> Result<()> {
    check(of)?;
    let mut made = Vec::new();
    let done = bring_up(of, &mut made);
    if done.is_err() {
        for name in made.iter().rev() {
            if let Err(error) = link::remove(name) {
                tracing::error!(?error, name, "cannot remove what was made");
            }
        }
    }
    done
}

/// Before anything is done: all that can be known.
fn check(of: &Interface) -> Result<()> {
    if of.protocols.iter().any(|p| p.dhcp.is_some()) {
        let text = format!("DHCP on '{}' needs systemd-networkd or ifupdown", of.name);
        return Err(Error::new(Code::ConfigUnsupported, Domain::Interface, text));
    }
    of.inner().iter().try_for_each(check)
}

fn bring_up(of: &Interface, made: &mut Vec<String>) -> Result<()> {
    make(of, made)?;
    if let Some(mac) = of.mac {
        link::set_mac(&of.name, mac.0)?;
    }
    for inner in of.inner() {
        // A bond takes only cards that are down.
        if of.kind == InterfaceKind::Bond {
            make(inner, made)?;
            link::set_up(&inner.name, false)?;
        } else {
            bring_up(inner, made)?;
        }
        link::plug(&of.name, &inner.name, &Port::default())?;
        link::set_up(&inner.name, true)?;
    }
    // After its ports: a bridge follows theirs until it is told its own.
    if let Some(mtu) = of.mtu {
        link::set_mtu(&of.name, mtu)?;
    }
    link::set_up(&of.name, true)?;
    for protocol in &of.protocols {
        for ip in &protocol.ips {
            let full = if protocol.family == Family::Ipv6 { 128 } else { 32 };
            let prefix = u8::try_from(ip.prefix.unwrap_or(full)).unwrap_or(full as u8);
            tolerate(link::add_address(&of.name, ip.address, prefix, None))?;
        }
        if let Some(gateway) = protocol.gateway {
            let any = match protocol.family {
                Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            tolerate(link::add_route(&of.name, any, 0, gateway, None))?;
        }
    }
    Ok(())
}

/// What is there already is as it should be.
fn tolerate(done: Result<()>) -> Result<()> {
    match done {
        Err(e) if e.errno() == nix::libc::EEXIST => Ok(()),
        other => other,
    }
}

fn make(of: &Interface, made: &mut Vec<String>) -> Result<()> {
    if link::get(&of.name)?.is_some() {
        return Ok(());
    }
    match of.kind {
        InterfaceKind::Ethernet => {
            let text = format!("the host has no interface '{}'", of.name);
            return Err(Error::new(Code::OperationFailed, Domain::Interface, text));
        }
        InterfaceKind::Bridge => {
            let part = of.bridge.as_ref();
            let delay = part.and_then(|b| b.delay.as_ref()).and_then(|d| d.parse::<f64>().ok());
            link::create_bridge(&Bridge {
                name: &of.name,
                mac: of.mac.map(|m| m.0),
                mtu: None,
                stp: part.and_then(|b| b.stp) == Some(Stp::On),
                // Whole seconds, rounded up; the document allows 0 to 300.
                delay: delay.map_or(0, |d| d.clamp(0.0, 300.0).ceil() as u64),
            })?;
        }
        InterfaceKind::Bond => {
            let bond = of.bond.as_ref();
            let mode = bond.and_then(|b| b.mode).unwrap_or_default();
            let number = BondMode::ALL.iter().position(|m| m.1 == mode).and_then(|n| u8::try_from(n).ok());
            let monitor = bond.and_then(|b| b.miimon.as_ref()).map(|m| m.freq);
            link::create_bond(&of.name, number.unwrap_or(0), monitor)?;
        }
        InterfaceKind::Vlan => {
            let Some(vlan) = &of.vlan else { return Ok(()) };
            let below = vlan.below.as_deref().unwrap_or_default();
            link::create_vlan(&of.name, below, u16::try_from(vlan.tag).unwrap_or(0))?;
        }
    }
    made.push(of.name.clone());
    Ok(())
}

/// Takes an interface down; what is no card goes away, and what was plugged into it is free again.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn down(name: &str) -> Result<()> {
    let links = link::list()?;
    let Some(of) = links.iter().find(|l| l.name == name) else { return Ok(()) };
    link::set_up(name, false)?;
    if !matches!(of.kind.as_str(), "bridge" | "bond" | "vlan") {
        return Ok(());
    }
    for member in links.iter().filter(|l| l.master == Some(of.index)) {
        link::unplug(&member.name)?;
        // Its ports came up with it, and go down with it: whoever wants one alone starts it.
        link::set_up(&member.name, false)?;
    }
    link::remove(name)
}
