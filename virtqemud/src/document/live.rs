//! What only a running guest has: aliases, image numbers, socket paths.

use virt_error::{Code, Domain as From, Error, Result};

use super::types::{Address, ChannelTarget, CharBackend, Domain, FsDriverType, FsSource, SocketMode};
use super::{alias, memory, nodes};
use crate::display::place::render_nodes;
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
    super::validate::check_live(def, emulator)?;
    render_nodes(def)?;
    folder_servers(def)?;
    memory::align(def);
    alias::assign(def, emulator);
    nodes::number_images(def);
    channel_paths(def, &live.channel_dir);
    Ok(())
}

/// A shared folder needs virtiofsd: its own binary, a running one's socket, or one that the host's descriptors name.
fn folder_servers(def: &mut Domain) -> Result<()> {
    for fs in def.devices.filesystems.iter_mut().filter(|f| f.driver.kind == Some(FsDriverType::Virtiofs)) {
        let running = matches!(&fs.source, FsSource::Mount(m) if m.socket.is_some());
        if running || fs.binary.path.is_some() {
            continue;
        }
        let Some(found) = virtiofsd() else {
            return Err(Error::new(
                Code::OperationFailed,
                From::Qemu,
                "Unable to find a satisfying virtiofsd",
            ));
        };
        fs.binary.path = Some(found);
    }
    Ok(())
}

/// The first file server of QEMU's vhost-user descriptors.
fn virtiofsd() -> Option<String> {
    let mut files: Vec<_> = ["/etc/qemu/vhost-user", "/usr/share/qemu/vhost-user"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    files.iter().find_map(|file| {
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        (value["type"] == "fs").then(|| value["binary"].as_str().map(str::to_string))?
    })
}

/// Gives sockets of channels that name none their places.
pub fn channel_paths(def: &mut Domain, folder: &str) {
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
            s.path = Some(format!("{folder}/{}", name.unwrap_or(made)));
            s.mode = Some(SocketMode::Bind);
        }
    }
}
