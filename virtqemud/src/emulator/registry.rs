//! All emulators of the host, each probed when it is first needed.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use virt_error::{Domain, Error, Result};

use super::{Emulator, Identity, cache, probe, target_of_arch};
use crate::cpu::Cpus;

type Slot = Arc<Mutex<Option<Arc<Emulator>>>>;

/// Where a daemon of the host keeps variables of guests' firmware.
const NVRAM: &str = "/var/lib/libvirt/qemu/nvram";

/// Finds emulator binaries and keeps their facts.
pub struct Emulators {
    cache: Option<PathBuf>,
    folders: Vec<PathBuf>,
    slots: Mutex<HashMap<PathBuf, Slot>>,
    cpus: Cpus,
    nvram: PathBuf,
}

impl Emulators {
    /// Facts are cached in files under `cache`; `None` keeps them in memory only.
    pub fn new(cache: Option<PathBuf>) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let folders =
            std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/libexec".into()]).collect();
        let cpus = Cpus::new(cache.clone());
        Self { cache, folders, slots: Mutex::default(), cpus, nvram: NVRAM.into() }
    }

    /// What the host and its emulators offer to guests' CPUs.
    pub fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// The same, with another folder for the variables of guests' firmware.
    #[must_use]
    pub fn with_nvram(self, folder: PathBuf) -> Self {
        Self { nvram: folder, ..self }
    }

    /// Where the variables of guests' firmware are kept.
    pub fn nvram(&self) -> &Path {
        &self.nvram
    }

    /// The binary that runs guests of an architecture: `qemu-system-x86_64` on the search path.
    pub fn binary_for(&self, arch: &str) -> Option<PathBuf> {
        let mut names = vec![format!("qemu-system-{arch}"), format!("qemu-system-{}", target_of_arch(arch))];
        if arch == host_arch() {
            names.push("qemu-kvm".into());
        }
        names.iter().find_map(|name| self.folders.iter().map(|f| f.join(name)).find(|p| is_executable(p)))
    }

    /// Architectures that libvirt has a name for and that have an emulator here, in the order documents list them.
    pub fn architectures(&self) -> Vec<&'static str> {
        const ALL: &[&str] = &[
            "alpha",
            "armv6l",
            "armv7l",
            "aarch64",
            "i686",
            "loongarch64",
            "m68k",
            "microblaze",
            "microblazeel",
            "mips",
            "mipsel",
            "mips64",
            "mips64el",
            "ppc",
            "ppc64",
            "ppc64le",
            "riscv32",
            "riscv64",
            "s390x",
            "sh4",
            "sh4eb",
            "sparc",
            "sparc64",
            "x86_64",
            "xtensa",
            "xtensaeb",
        ];
        ALL.iter().copied().filter(|a| self.binary_for(a).is_some()).collect()
    }

    /// The facts about a binary; probes it when the file is new or has changed. Blocking.
    ///
    /// # Errors
    /// Code 38 when the file cannot be read or run, code 1 when it does not speak QMP.
    pub fn get(&self, binary: &Path) -> Result<Arc<Emulator>> {
        let identity = identify(binary)?;
        let slot = self.slots.lock().entry(binary.to_path_buf()).or_default().clone();
        let mut slot = slot.lock();
        if let Some(known) = slot.as_ref().filter(|e| e.identity == identity) {
            return Ok(known.clone());
        }
        let cached = self.cache.as_deref().and_then(|folder| cache::load(folder, binary, &identity));
        let emulator = match cached {
            Some(emulator) => emulator,
            None => {
                let emulator = probe::probe(binary, identity)?;
                if let Some(folder) = &self.cache
                    && let Err(error) = cache::store(folder, &emulator)
                {
                    tracing::warn!(%error, folder = %folder.display(), "cannot cache the emulator's facts");
                }
                emulator
            }
        };
        let emulator = Arc::new(emulator);
        *slot = Some(emulator.clone());
        Ok(emulator)
    }
}

/// libvirt's name of this host's architecture.
pub fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn identify(binary: &Path) -> Result<Identity> {
    let meta = std::fs::metadata(binary).map_err(|e| {
        Error::system(Domain::Qemu, format!("Cannot check QEMU binary {}", binary.display()), e)
    })?;
    Ok(Identity {
        mtime_ns: changed(&meta),
        size: meta.len(),
        kvm_device: std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
        modules_ns: modules_changed(binary),
    })
}

fn changed(meta: &std::fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// When a module was last added or removed, in nanoseconds since the epoch.
fn modules_changed(binary: &Path) -> i128 {
    let Some(prefix) = binary.parent().and_then(Path::parent) else { return 0 };
    let own = format!("lib/{}-linux-gnu/qemu", std::env::consts::ARCH);
    let folders = [own.as_str(), "lib64/qemu", "lib/qemu"];
    let times = folders.iter().filter_map(|f| std::fs::metadata(prefix.join(f)).ok());
    times.map(|m| changed(&m)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_a_system_error() {
        let error = Emulators::new(None).get(Path::new("/nonexistent/qemu")).unwrap_err();
        assert_eq!(error.code() as i32, 38);
        assert!(error.message().contains("No such file"), "{error}");
    }

    #[test]
    fn a_new_module_makes_another_emulator() {
        let dir = std::env::temp_dir().join(format!("virt-modules-{}", std::process::id()));
        let (binary, modules) = (dir.join("bin/qemu"), dir.join("lib/qemu"));
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        std::fs::write(&binary, "").unwrap();
        let before = identify(&binary).unwrap();
        std::fs::create_dir_all(&modules).unwrap();
        let after = identify(&binary).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(before.modules_ns, 0);
        assert_ne!(before, after);
    }

    #[test]
    fn a_program_that_is_no_emulator_is_refused() {
        let error = Emulators::new(None).get(Path::new("/bin/true")).unwrap_err();
        assert_eq!(error.code() as i32, 1);
    }

    #[test]
    fn facts_come_from_the_binary_once_and_then_from_the_cache() {
        let emulators = Emulators::new(None);
        let Some(binary) = emulators.binary_for("x86_64") else {
            eprintln!("skipped: no qemu-system-x86_64");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let first = Emulators::new(Some(folder.path().into())).get(&binary).unwrap();
        assert_eq!(first.arch, "x86_64");
        assert!(first.machine("pc").unwrap().name.starts_with("pc-i440fx-"));
        assert_eq!(first.default_cpu("pc"), Some("qemu64"));
        assert!(first.has_type("virtio-blk-pci") && first.has_property("virtio-blk-pci", "num-queues"));
        let stored = cache::load(folder.path(), &binary, &first.identity).unwrap();
        assert_eq!(stored.machines.len(), first.machines.len());
        let other = Identity { size: 1, ..first.identity.clone() };
        assert!(cache::load(folder.path(), &binary, &other).is_none());
    }
}
