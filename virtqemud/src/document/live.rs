//! What only a running guest has: aliases, image numbers, socket paths.

use virt_error::Result;

use super::types::{Address, ChannelTarget, CharBackend, Domain, SocketMode};
use super::{alias, memory, nodes};
use crate::emulator::Emulator;

/// Folders of one run of a guest.
#[derive(Clone, Debug)]
pub struct Live {
    /// Where the sockets of its channels are: `/run/libvirt/qemu/channel/1-vm1`.
    pub channel_dir: String,
    /// Its private folder: `/var/lib/libvirt/qemu/domain-1-vm1`.
    pub private_dir: String,
}

/// Completes a configuration for a start: aliases, numbers of images, paths of sockets, rounded memory.
pub fn prepare_live(def: &mut Domain, emulator: &Emulator, live: &Live) -> Result<()> {
    super::cpu::check_live(def)?;
    super::validate::check_live(def)?;
    memory::align(def);
    alias::assign(def, emulator);
    nodes::number_images(def);
    channel_paths(def, live);
    Ok(())
}

fn channel_paths(def: &mut Domain, live: &Live) {
    for channel in &mut def.devices.channels {
        let name = match &channel.target {
            Some(ChannelTarget::Virtio(t)) => t.name.clone(),
            _ => None,
        };
        let alias = channel.info.alias.clone().unwrap_or_default();
        if let CharBackend::Unix(s) = &mut channel.backend
            && s.path.is_none()
        {
            let made = match &channel.info.address {
                Some(Address::VirtioSerial(a)) => {
                    format!("vioser-{:02}-{:02}-{:02}.sock", a.controller, a.bus, a.port)
                }
                _ => alias,
            };
            s.path = Some(format!("{}/{}", live.channel_dir, name.unwrap_or(made)));
            s.mode = Some(SocketMode::Bind);
        }
    }
}
