//! What the kernel has, as documents.

use virt_error::Result;
use virt_host::link::{self, Details, Link};
use virt_model::Mac;
use virt_model::interface::{
    Bond, BondMode, Bridge, Interface, InterfaceKind, Link as Cable, LinkState, MiiMonitor, Stp, Vlan,
};

/// Interfaces of guests are not the host's.
const GUESTS: [&str; 2] = ["tun", "macvtap"];
/// How deep interfaces may lie in interfaces.
const DEPTH: usize = 4;

/// All interfaces of the host.
///
/// # Errors
/// Code 38 with the kernel's reason.
pub fn all() -> Result<Vec<Link>> {
    Ok(link::list()?.into_iter().filter(|l| !GUESTS.contains(&l.kind.as_str())).collect())
}

/// The document of one of `links`.
pub fn document(of: &Link, links: &[Link]) -> Interface {
    within(of, links, 0)
}

fn within(of: &Link, links: &[Link], depth: usize) -> Interface {
    let members = || {
        let below = links.iter().filter(|l| l.master == Some(of.index) && depth < DEPTH);
        below.map(|l| within(l, links, depth + 1)).collect::<Vec<_>>()
    };
    let mut out = Interface {
        name: of.name.clone(),
        mtu: Some(of.mtu).filter(|_| depth == 0),
        mac: of.mac.map(Mac),
        link: Some(Cable { speed: speed(of), state: LinkState::ALL.get(usize::from(of.state)).map(|s| s.1) }),
        ..Interface::default()
    };
    match of.details {
        Details::Bridge { stp, delay } => {
            out.kind = InterfaceKind::Bridge;
            let stp = Some(if stp { Stp::On } else { Stp::Off });
            out.bridge = Some(Bridge { stp, delay: Some(seconds(delay)), interfaces: members() });
        }
        Details::Bond { mode, monitor } => {
            out.kind = InterfaceKind::Bond;
            let mode = BondMode::ALL.get(usize::from(mode)).map(|m| m.1);
            let miimon = (monitor > 0).then(|| MiiMonitor { freq: monitor, ..MiiMonitor::default() });
            out.bond = Some(Bond { mode, miimon, arpmon: None, interfaces: members() });
        }
        Details::Vlan { tag } => {
            out.kind = InterfaceKind::Vlan;
            let below = links.iter().find(|l| Some(l.index) == of.below).map(|l| l.name.clone());
            out.vlan = Some(Vlan { tag: tag.into(), below });
        }
        Details::None => {}
    }
    out
}

/// Hundredths of a second, as the reference writes delays.
fn seconds(hundredths: u32) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:02}"),
    }
}

/// A card's speed; known only while it is plugged in.
fn speed(of: &Link) -> Option<u32> {
    const UP: u8 = 6;
    let text = (of.state == UP).then(|| std::fs::read_to_string(format!("/sys/class/net/{}/speed", of.name)));
    text?.ok()?.trim().parse().ok()
}
