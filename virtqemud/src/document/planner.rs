//! The driver's way from a definition to a process: [`Planner`] on top of this crate's documents and command lines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use virt_error::{Domain as From, Error, Result};

use super::types::{Domain, NetSource};
use super::{Live, prepare_live};
use crate::command::{self, LaunchContext, Monitor, Sealed, Settings};
use crate::display::place;
use crate::emulator::{Emulator, Emulators, flags};
use crate::guest::plan::{Command, Place, Planner};
use crate::process::tpm;

/// Plans starts with the host's emulators and the driver's configuration.
pub struct DocumentPlanner {
    emulators: Arc<Emulators>,
    settings: Settings,
    cache: PathBuf,
}

impl DocumentPlanner {
    /// `settings` are those of qemu.conf that reach the command line; `cache` is libvirt's folder of what it knows of
    /// emulators.
    pub fn new(emulators: Arc<Emulators>, settings: Settings, cache: PathBuf) -> Self {
        Self { emulators, settings, cache }
    }

    fn emulator(&self, def: &Domain) -> Result<Arc<Emulator>> {
        let mut probe = Domain { os: def.os.clone(), ..Domain::default() };
        probe.devices.emulator = def.devices.emulator.clone();
        super::defaults::choose_emulator(&mut probe, &self.emulators)
    }
}

impl Planner for DocumentPlanner {
    fn prepare(&self, config: &Domain, place: &Place) -> Result<Domain> {
        super::unprepared::refuse(config)?;
        let emulator = self.emulator(config)?;
        super::modules::check(config, &emulator)?;
        let mut live = config.clone();
        let folders = Live {
            channel_dir: place.paths.channels.display().to_string(),
            private_dir: place.paths.lib.display().to_string(),
        };
        prepare_live(&mut live, &emulator, &folders)?;
        crate::cpu::expand::expand(self.emulators.cpus(), &mut live, &emulator)?;
        for graphics in &mut live.devices.graphics {
            place::listen(graphics, &self.settings.displays, &folders.private_dir);
        }
        for disk in &mut live.devices.disks {
            // The older place beside the source means the same.
            if let Some(encryption) = disk.encryption.take() {
                disk.source.common_mut().encryption.get_or_insert(encryption);
            }
            // A drive without a medium has no image to have a format.
            if disk.source.is_empty() {
                disk.driver.format = None;
                disk.source.common_mut().index = None;
            }
        }
        Ok(live)
    }

    fn command(&self, live: &Domain, place: &Place) -> Result<Command> {
        let emulator = self.emulator(live)?;
        let settings = self.settings.clone();
        let sealing =
            || place.sealing.as_ref().ok_or_else(|| Error::no_support(From::Qemu, "virSecretGetValue"));
        let launch = LaunchContext {
            native: false,
            private_dir: place.paths.lib.display().to_string(),
            lib_dir: place.paths.lib.parent().map(|p| p.display().to_string()).unwrap_or_default(),
            memory_dir: place.paths.memory.display().to_string(),
            channel_dir: place.paths.channels.display().to_string(),
            monitor: Monitor::Fd(place.monitor),
            socket_fds: place.sockets.clone(),
            net_fds: place.cards.clone(),
            vsock_fd: None,
            vhost_scsi_fd: None,
            tpm_socket: tpm::emulated(live).map(|_| place.paths.tpm_socket.display().to_string()),
            hugepages: HashMap::new(),
            default_hugepage_kib: 2048,
            now: now(),
            local_offset: 0,
            host_smbios: None,
            settings,
            secrets: &|wanted| sealing()?.value(wanted),
            seal: &|data| match &place.sealing {
                Some(sealing) => sealing.seal(data),
                None => Sealed { data: String::new(), iv: None },
            },
            find_scsi: &|_| None,
        };
        let line = command::build(live, &emulator, &launch)?;
        let (major, minor, micro) = emulator.version;
        let mut argv = vec![line.program];
        argv.extend(line.args);
        if place.restored {
            argv.extend(["-incoming".into(), "defer".into()]);
        }
        let version = format!("{major}.{minor}.{micro}{}", emulator.package);
        Ok(Command { argv, env: line.env, version, memlock: memlock(live) })
    }

    fn capabilities(&self, live: &Domain) -> Vec<String> {
        self.emulator(live).map_or_else(|_| Vec::new(), |e| flags::recorded(&self.cache, &e))
    }
}

/// Of a guest whose memory a device reaches by itself: all of it, and a GiB for the device's own needs, as in the
/// reference.
fn memlock(live: &Domain) -> Option<u64> {
    let reached = live.devices.interfaces.iter().any(|i| matches!(i.source, NetSource::Vdpa(_)));
    let memory = live.memory.as_ref().and_then(|m| m.size.bytes());
    memory.filter(|_| reached).map(|bytes| bytes.saturating_add(1 << 30))
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
