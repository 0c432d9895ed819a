//! Where a guest's files are: the driver's folders and those of one run.

use std::path::{Path, PathBuf};

use virt_error::{Code, Domain, Error, Result};

/// The longest socket path the kernel takes, without the final zero.
pub(super) const MAX_SOCKET: usize = 107;
/// How much of a guest's name goes into folder names, in characters.
const SHORT_NAME: usize = 20;

/// The driver's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Definitions: /etc/libvirt/qemu.
    pub config: PathBuf,
    /// What ends with the host's run: /run/libvirt/qemu.
    pub state: PathBuf,
    /// What guests keep: /var/lib/libvirt/qemu.
    pub lib: PathBuf,
    /// Guest logs: /var/log/libvirt/qemu.
    pub log: PathBuf,
    /// What can be made again: /var/cache/libvirt/qemu.
    pub cache: PathBuf,
    /// Lock files of terminals: /var/lock. A session daemon has none, for only root may write there.
    pub locks: Option<PathBuf>,
}

impl Folders {
    /// The system daemon's folders under `root` ("/" on a real host).
    pub fn system(root: &Path) -> Self {
        Self {
            config: root.join("etc/libvirt/qemu"),
            state: root.join("run/libvirt/qemu"),
            lib: root.join("var/lib/libvirt/qemu"),
            log: root.join("var/log/libvirt/qemu"),
            cache: root.join("var/cache/libvirt/qemu"),
            locks: Some(root.join("var/lock")),
        }
    }

    /// A user's folders: `config` ~/.config/libvirt, `run` $XDG_RUNTIME_DIR/libvirt, `cache` ~/.cache/libvirt.
    pub fn session(config: &Path, run: &Path, cache: &Path) -> Self {
        Self {
            config: config.join("qemu"),
            state: run.join("qemu/run"),
            lib: config.join("qemu/lib"),
            log: cache.join("qemu/log"),
            cache: cache.join("qemu/cache"),
            locks: None,
        }
    }

    /// Where the variables of guests' firmware are kept.
    pub fn nvram(&self) -> PathBuf {
        match &self.locks {
            Some(_) => self.lib.join("nvram"),
            // A user's guests have it beside their definitions.
            None => self.config.join("nvram"),
        }
    }

    /// Where guests are saved that their next start brings back.
    pub fn saves(&self) -> PathBuf {
        match &self.locks {
            Some(_) => self.lib.join("save"),
            None => self.config.join("save"),
        }
    }

    /// State of emulated TPMs, a folder for each guest's UUID.
    pub fn tpm_states(&self) -> PathBuf {
        self.lib.with_file_name("swtpm")
    }

    /// What emulated TPMs say.
    pub fn tpm_logs(&self) -> PathBuf {
        match (&self.locks, self.log.ancestors().nth(2)) {
            (Some(_), Some(logs)) => logs.join("swtpm/libvirt/qemu"),
            _ => self.log.clone(),
        }
    }

    /// The files of one run of a guest.
    ///
    /// Errors: the monitor's path is too long for a socket.
    pub fn run(&self, id: i32, name: &str) -> Result<RunPaths> {
        let short = short_name(id, name);
        let lib = self.lib.join(format!("domain-{short}"));
        let monitor = lib.join("monitor.sock");
        if monitor.as_os_str().len() > MAX_SOCKET {
            let text = format!("UNIX socket path '{}' too long", monitor.display());
            return Err(Error::new(Code::InternalError, Domain::Qemu, text));
        }
        Ok(RunPaths {
            master_key: lib.join("master-key.aes"),
            monitor,
            lib,
            channels: self.state.join("channel").join(&short),
            memory: self.lib.join("ram").join(&short),
            tpm_socket: self.state.join("swtpm").join(format!("{short}-swtpm.sock")),
            tpm_pid: self.state.join("swtpm").join(format!("{short}-swtpm.pid")),
            pid_file: self.state.join(format!("{name}.pid")),
            status: self.state.join(format!("{name}.xml")),
            log: self.log.join(format!("{name}.log")),
        })
    }
}

/// The files of one run of a guest. The name is checked before it gets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPaths {
    /// The guest's private folder, removed when it ends.
    pub lib: PathBuf,
    /// QEMU's monitor.
    pub monitor: PathBuf,
    /// The key that secrets are wrapped with.
    pub master_key: PathBuf,
    /// Sockets of channels, removed when the guest ends.
    pub channels: PathBuf,
    /// Memory backed by files, removed when the guest ends.
    pub memory: PathBuf,
    /// Where its emulated TPM listens, if it has one.
    pub tpm_socket: PathBuf,
    /// The number of that TPM's process.
    pub tpm_pid: PathBuf,
    /// The process's number.
    pub pid_file: PathBuf,
    /// What a restarted daemon needs to know.
    pub status: PathBuf,
    /// What QEMU says.
    pub log: PathBuf,
}

/// "1-NAME" with a long name cut, so that socket paths stay short.
pub fn short_name(id: i32, name: &str) -> String {
    let short: String = name.chars().take(SHORT_NAME).collect();
    format!("{id}-{short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_libvirts() {
        let run = Folders::system(Path::new("/")).run(1, "vm1").expect("short enough");
        assert_eq!(run.monitor, Path::new("/var/lib/libvirt/qemu/domain-1-vm1/monitor.sock"));
        assert_eq!(run.pid_file, Path::new("/run/libvirt/qemu/vm1.pid"));
        assert_eq!(run.channels, Path::new("/run/libvirt/qemu/channel/1-vm1"));
        assert_eq!(short_name(7, "äbcdefghijklmnopqrstuvwxyz"), "7-äbcdefghijklmnopqrst");
    }

    #[test]
    fn a_root_too_deep_is_refused() {
        let root = PathBuf::from("/").join("x".repeat(90));
        let e = Folders::system(&root).run(1, "vm1").expect_err("too long");
        assert!(e.message().contains("too long"), "{e}");
    }
}
