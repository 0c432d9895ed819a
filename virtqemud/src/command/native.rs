//! `domxml-to-native qemu-argv`: the line a guest would be started with, without starting anything.

use std::collections::HashMap;

use virt_error::Result;

use super::{CommandLine, LaunchContext, Monitor, Sealed, Settings, build};
use crate::cpu::Cpus;
use crate::display::place;
use crate::document::types::{Domain, EthernetNet, Graphics, Interface, NetSource};
use crate::document::{Live, prepare_live};
use crate::emulator::Emulator;

/// Builds the line of a completed configuration as the reference shows it: every network card is a tap, automatic
/// ports and descriptors are placeholders, and the guest has the number -1.
pub fn native(mut def: Domain, emulator: &Emulator, cpus: &Cpus, settings: Settings) -> Result<CommandLine> {
    for net in &mut def.devices.interfaces {
        *net = plain_card(net);
    }
    crate::document::address::assign(&mut def, emulator)?;
    def.id = None;
    let short = crate::process::paths::short_name(-1, def.name.as_deref().unwrap_or_default());
    let live = Live {
        channel_dir: format!("/run/libvirt/qemu/channel/{short}"),
        private_dir: format!("/var/lib/libvirt/qemu/domain-{short}"),
    };
    prepare_live(&mut def, emulator, &live)?;
    crate::cpu::expand::expand(cpus, &mut def, emulator)?;
    for graphics in &mut def.devices.graphics {
        place::listen(graphics, &settings.displays, &live.private_dir);
        place::show(graphics, &settings.displays)?;
        if let Graphics::Dbus(g) = graphics
            && g.p2p != Some(true)
        {
            g.address.get_or_insert_with(|| format!("unix:path=/run/libvirt/qemu/dbus/{short}-dbus.sock"));
        }
    }
    let launch = LaunchContext {
        native: true,
        private_dir: live.private_dir.clone(),
        lib_dir: "/var/lib/libvirt/qemu".into(),
        memory_dir: format!("/var/lib/libvirt/qemu/ram/{short}"),
        channel_dir: live.channel_dir,
        monitor: Monitor::Socket(format!("{}/monitor.sock", live.private_dir)),
        socket_fds: HashMap::new(),
        net_fds: HashMap::new(),
        vsock_fd: None,
        vhost_scsi_fd: None,
        tpm_socket: None,
        hugepages: HashMap::new(),
        default_hugepage_kib: 2048,
        now: now(),
        local_offset: 0,
        host_smbios: None,
        settings,
        secrets: &|_| Ok(Vec::new()),
        seal: &|data| Sealed {
            data: super::secret::base64(&vec![0; data.len().next_multiple_of(16)]),
            iv: None,
        },
        find_scsi: &|_| Some("/dev/sg0".into()),
    };
    build(&def, emulator, &launch)
}

/// What is kept of a card: its identity.
fn plain_card(net: &Interface) -> Interface {
    Interface {
        mac: net.mac.clone(),
        source: NetSource::Ethernet(EthernetNet::default()),
        model: net.model.clone(),
        script: net.script.clone(),
        ..Interface::default()
    }
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
