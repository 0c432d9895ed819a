//! macvtaps: cards with an address of their own on an interface of the host. Everything here blocks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use virt_error::{Code, Domain as From, Error, Result};
use virt_host::link::{self, MacvtapMode};
use virt_model::domain::interface::{DirectMode, DirectNet, Interface};
use virt_tap_sys::{Options, open_macvtap};

use super::names::{Kind, Names};
use super::{is_virtio, queues};

/// How long the device file may take to appear.
const APPEARS: Duration = Duration::from_secs(5);

/// Makes the card's macvtap. `note` hears of its name before it exists: it would outlive a killed daemon.
pub(super) fn open(
    card: &mut Interface,
    names: &Names,
    source: &DirectNet,
    note: &mut dyn FnMut(&Interface) -> Result<()>,
) -> Result<Vec<OwnedFd>> {
    let lower = source.dev.clone().unwrap_or_default();
    let mac = card.mac.as_ref().and_then(|m| m.address);
    let mac = mac.ok_or_else(|| Error::internal(From::Qemu, "a card without a hardware address"))?.0;
    let mode = match source.mode.unwrap_or(DirectMode::Default) {
        DirectMode::Default | DirectMode::Vepa => MacvtapMode::Vepa,
        DirectMode::Bridge => MacvtapMode::Bridge,
        DirectMode::Private => MacvtapMode::Private,
        DirectMode::Passthrough => MacvtapMode::Passthrough,
    };
    let own = card.target.clone().filter(|name| !Names::is_made(name) && !name.contains("%d"));
    let number = loop {
        let name = match &own {
            Some(name) => name.clone(),
            None => names.next(Kind::Macvtap, None)?,
        };
        if link::exists(&name) {
            let text = format!("device named '{name}' already exists");
            return Err(Error::new(Code::OperationFailed, From::Network, text));
        }
        card.target = Some(name.clone());
        note(card)?;
        match link::create_macvtap(&name, &lower, mac, mode)? {
            Some(number) => break number,
            None if own.is_none() => {}
            None => {
                let text = format!("device named '{name}' already exists");
                return Err(Error::new(Code::OperationFailed, From::Network, text));
            }
        }
    };
    let name = card.target.clone().unwrap_or_default();
    let fds = finish(card, &name, number);
    if fds.is_err()
        && let Err(error) = link::remove(&name)
    {
        tracing::warn!(%error, name, "a macvtap stays");
    }
    fds
}

fn finish(card: &Interface, name: &str, number: u32) -> Result<Vec<OwnedFd>> {
    if let Some(mtu) = card.mtu {
        link::set_mtu(name, mtu)?;
    }
    link::set_up(name, true)?;
    let device = PathBuf::from(format!("/dev/tap{number}"));
    let options = Options { vnet_header: is_virtio(card), queues: queues(card), existing: true };
    let end = Instant::now() + APPEARS;
    loop {
        match open_macvtap(&device, options) {
            Ok(fds) => return Ok(fds),
            Err(e) if e.kind() == io::ErrorKind::NotFound && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => {
                let text = format!("cannot open macvtap tap device {}", device.display());
                return Err(Error::system(From::None, text, e));
            }
        }
    }
}
