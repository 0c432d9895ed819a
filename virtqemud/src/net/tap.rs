//! Taps: made, set up, and plugged into a bridge. Everything here blocks.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::link;
use virt_model::Mac;
use virt_model::domain::interface::{EthernetNet, Interface};
use virt_model::domain::net::{NativeVlan, Vlan, VlanTag};
use virt_tap_sys::{Options, open_tap};

use super::names::{Kind, Names};
use super::{is_virtio, queues};

const TUN: &str = "/dev/net/tun";
/// How long a card's script may run.
const SCRIPT: Duration = Duration::from_secs(30);
/// How many made-up names are tried when others take them first.
const TRIES: u32 = 20;

/// Makes the card's tap and names it in the card.
pub(super) fn open(card: &mut Interface, names: &Names, existing: bool) -> Result<Vec<OwnedFd>> {
    let device = card.backend.tap.clone().unwrap_or_else(|| TUN.into());
    let options = Options { vnet_header: is_virtio(card), queues: queues(card), existing };
    let own = card.target.clone().filter(|name| !Names::is_made(name));
    let mut tries = 0;
    loop {
        let name = match &own {
            Some(name) if !name.contains("%d") => name.clone(),
            pattern => names.next(Kind::Tap, pattern.as_deref())?,
        };
        link::check_name(&name)?;
        match open_tap(Path::new(&device), &name, options) {
            Ok(fds) => {
                card.target = Some(name);
                return Ok(fds);
            }
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) && own.is_none() && tries < TRIES => {
                tries += 1
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let text = format!("Unable to open {device}, is tun module loaded?");
                return Err(Error::system(From::None, text, e));
            }
            Err(e) => {
                return Err(Error::system(From::None, format!("Unable to create tap device {name}"), e));
            }
        }
    }
}

/// The hardware address of the host's end. Bridges take the lowest of their ports: this one must not win.
fn host_mac(guest: Mac) -> [u8; 6] {
    let mut mac = guest.0;
    mac[0] = if mac[0] == 0xfe { 0xfa } else { 0xfe };
    mac
}

/// Address, MTU: what every tap gets before it is plugged in and switched on.
fn dress(card: &Interface, name: &str, mtu: Option<u32>) -> Result<()> {
    if let Some(mac) = card.mac.as_ref().and_then(|m| m.address) {
        link::set_mac(name, host_mac(mac))?;
    }
    match mtu {
        Some(mtu) => link::set_mtu(name, mtu),
        None => Ok(()),
    }
}

/// A tap in a bridge.
pub(super) fn bridge(
    card: &mut Interface,
    names: &Names,
    bridge: &str,
    learns_from_us: bool,
) -> Result<Vec<OwnedFd>> {
    link::check_name(bridge)?;
    let Some(found) = link::get(bridge)? else {
        let gone = io::Error::from_raw_os_error(nix::libc::ENODEV);
        return Err(Error::system(From::None, format!("Cannot get interface MTU on '{bridge}'"), gone));
    };
    let fds = open(card, names, false)?;
    let name = card.target.clone().unwrap_or_default();
    dress(card, &name, Some(card.mtu.unwrap_or(found.mtu)))?;
    plug(card, bridge, learns_from_us)?;
    link::set_up(&name, true)?;
    Ok(fds)
}

/// Makes the card's tap a port of a bridge; also to move it from another.
pub(super) fn plug(card: &Interface, bridge: &str, learns_from_us: bool) -> Result<()> {
    let mac = card.mac.as_ref().and_then(|m| m.address).map(|m| m.0);
    let port = link::Port { isolated: card.is_isolated(), only: mac.filter(|_| learns_from_us) };
    let name = card.target.as_deref().unwrap_or_default();
    link::plug(bridge, name, &port)?;
    match card.vlans() {
        Some(vlan) => link::set_port_vlans(name, &port_vlans(vlan)),
        None => Ok(()),
    }
}

/// A single tag is added and taken off by the bridge; a trunk's tags are the guest's own business, but for its native one.
fn port_vlans(vlan: &Vlan) -> Vec<link::PortVlan> {
    let trunk = vlan.trunk == Some(true);
    let port = |tag: &VlanTag| link::PortVlan {
        // Numbers are checked when a document is read.
        id: u16::try_from(tag.id).unwrap_or_default(),
        native: !trunk || matches!(tag.native_mode, Some(NativeVlan::Tagged | NativeVlan::Untagged)),
        untagged: !trunk || tag.native_mode == Some(NativeVlan::Untagged),
    };
    vlan.tags.iter().map(port).collect()
}

/// A tap that is in no bridge; addresses and a script of the document's choice.
pub(super) fn plain(card: &mut Interface, names: &Names, source: &EthernetNet) -> Result<Vec<OwnedFd>> {
    let given = card.target.clone().filter(|n| !Names::is_made(n) && !n.contains("%d"));
    let there = given.as_deref().is_some_and(link::exists);
    let managed = card.target_managed != Some(false);
    if !managed && !there {
        let text = "target managed='no' but specified dev doesn't exist";
        return Err(Error::internal(From::Domain, text));
    }
    if let (Some(name), true, true) = (&given, managed, there) {
        let text = format!("The {name} interface already exists");
        return Err(Error::new(Code::OperationInvalid, From::None, text));
    }
    let fds = open(card, names, there)?;
    let name = card.target.clone().unwrap_or_default();
    if !managed {
        return Ok(fds);
    }
    dress(card, &name, card.mtu)?;
    if let Some(script) = &card.script {
        run_script(script, &name)?;
    }
    for ip in &source.ips {
        let address = address(ip.address.as_deref())?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let prefix = ip.prefix.and_then(|p| u8::try_from(p).ok()).filter(|p| *p <= full).unwrap_or(full);
        let peer = ip.peer.as_deref().map(|p| self::address(Some(p))).transpose()?;
        link::add_address(&name, address, prefix, peer)?;
    }
    link::set_up(&name, true)?;
    for route in &source.routes {
        let to = address(route.address.as_deref())?;
        let full = if to.is_ipv4() { 32 } else { 128 };
        let prefix = route.prefix.and_then(|p| u8::try_from(p).ok()).filter(|p| *p <= full).unwrap_or(full);
        link::add_route(&name, to, prefix, address(route.gateway.as_deref())?, route.metric)?;
    }
    Ok(fds)
}

fn address(text: Option<&str>) -> Result<IpAddr> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| {
        Error::new(
            Code::XmlError,
            From::Domain,
            format!("Failed to parse IP address '{}'", text.escape_default()),
        )
    })
}

/// Runs a card's script with the tap's name.
pub(super) fn run_script(program: &str, name: &str) -> Result<()> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".into());
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let failed = |what: String| {
        let text = format!("Child process (LC_ALL=C PATH={path} HOME={home} {program} {name}) {what}");
        Error::internal(From::None, text)
    };
    let mut child = Command::new(program)
        .arg(name)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", &path)
        .env("HOME", &home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| Error::system(From::None, format!("cannot execute binary {program}"), e))?;
    let end = Instant::now() + SCRIPT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(failed(match status.code() {
                    Some(code) => format!("unexpected exit status {code}"),
                    None => "unexpected fatal signal".into(),
                }));
            }
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("did not end in time".into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_end_never_has_the_lowest_address() {
        assert_eq!(host_mac(Mac([0x52, 0x54, 0, 1, 2, 3]))[0], 0xfe);
        assert_eq!(host_mac(Mac([0xfe, 0x54, 0, 1, 2, 3]))[0], 0xfa);
    }

    #[test]
    fn a_scripts_failure_is_told() {
        assert!(run_script("/bin/true", "x").is_ok());
        let text = run_script("/bin/false", "x").unwrap_err().message();
        assert!(text.ends_with("/bin/false x) unexpected exit status 1"), "{text}");
        assert!(run_script("/no/such/program", "x").is_err());
    }
}
