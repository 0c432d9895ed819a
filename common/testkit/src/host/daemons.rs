//! Looking at our own daemons from outside: their processes, memory, logs and guests.

use std::fs;
use std::path::{Path, PathBuf};

use super::Host;
use crate::wait;

impl Host {
    /// The pid of a running daemon.
    #[must_use]
    pub fn pid(&self, daemon: &str) -> Option<u32> {
        let file = state(self.root()).join(format!("{daemon}.pid"));
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Kills a daemon with SIGKILL and waits until it is gone. The next call starts it again.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn kill(&self, daemon: &str) {
        let pid = self.pid(daemon).unwrap_or_else(|| panic!("{daemon} does not run"));
        wait::kill(pid);
        wait::until("the killed daemon is gone", || self.pid(daemon) != Some(pid));
    }

    /// Resident memory of a running daemon, in bytes, without file mappings.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident(&self, daemon: &str) -> u64 {
        let pid = self.pid(daemon).unwrap_or_else(|| panic!("{daemon} does not run"));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon's status");
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("RssAnon");
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
        kib * 1024
    }

    /// What a daemon logged so far.
    #[must_use]
    pub fn log(&self, daemon: &str) -> String {
        fs::read_to_string(state(self.root()).join(format!("{daemon}.log"))).unwrap_or_default()
    }

    /// Pids of all QEMU processes of this host.
    #[must_use]
    pub fn emulators(&self) -> Vec<u32> {
        virt_activate::leftovers::find(self.root())
            .into_iter()
            .filter(|(_, program)| program.starts_with("qemu-system-"))
            .filter_map(|(pid, _)| u32::try_from(pid.as_raw()).ok())
            .collect()
    }
}

fn state(root: &Path) -> PathBuf {
    virt_activate::root::state_dir(root)
}

/// The end of every log, for a failing test.
pub(super) fn print_logs(root: &Path) {
    let mut logs: Vec<PathBuf> = [state(root), root.join("var/log/libvirt/qemu")]
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    for path in logs {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        println!("---- {} (last lines)", path.display());
        for line in &lines[lines.len().saturating_sub(40)..] {
            println!("{line}");
        }
    }
}
