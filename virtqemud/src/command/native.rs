//! `domxml-to-native qemu-argv`: the line a guest would be started with, without starting anything.

use std::collections::HashMap;

use virt_error::Result;

use super::{CommandLine, LaunchContext, Monitor, Sealed, Settings, build};
use crate::cpu::Cpus;
use crate::document::types::{Domain, EthernetNet, Graphics, Interface, ListenKind, NetSource};
use crate::document::{Live, prepare_live};
use crate::emulator::Emulator;

/// Ports that stand for automatically chosen ones.
const VNC_PORT: i32 = 5900;
const SPICE_PORT: i32 = 5901;

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
        made_socket(graphics, &live.private_dir);
        match graphics {
            Graphics::Vnc(g) if g.autoport == Some(true) => g.port = Some(VNC_PORT),
            Graphics::Spice(g) if g.autoport == Some(true) => g.port = Some(SPICE_PORT),
            Graphics::Dbus(g) if g.p2p != Some(true) => {
                g.address
                    .get_or_insert_with(|| format!("unix:path=/run/libvirt/qemu/dbus/{short}-dbus.sock"));
            }
            _ => {}
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

/// Sockets without a path are made in the guest's private folder.
fn made_socket(graphics: &mut Graphics, folder: &str) {
    let (listens, name) = match graphics {
        Graphics::Vnc(g) => (&mut g.listens, "vnc.sock"),
        Graphics::Spice(g) => (&mut g.listens, "spice.sock"),
        _ => return,
    };
    for listen in listens.iter_mut().filter(|l| l.kind == ListenKind::Socket && l.socket.is_none()) {
        listen.socket = Some(format!("{folder}/{name}"));
        listen.auto_generated = Some(true);
    }
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
