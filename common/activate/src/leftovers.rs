//! Ending what still lives under a root after its activator: guests, and daemons of a killed activator.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use virt_host::cgroup::Layout;

/// Programs that belong to a root when their arguments name it.
const OURS: [&str; 3] = ["qemu-system-", "virt", "dnsmasq"];

/// Processes whose program is one of ours and whose arguments name a path in `root`.
#[must_use]
pub fn find(root: &Path) -> Vec<(Pid, String)> {
    let root = root.as_os_str().as_encoded_bytes();
    let me = Pid::this();
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()).map(Pid::from_raw) else {
            continue;
        };
        let dir = entry.path();
        let Ok(args) = fs::read(dir.join("cmdline")) else { continue };
        let program = args.split(|b| *b == 0).next().unwrap_or_default();
        let program =
            String::from_utf8_lossy(program.rsplit(|b| *b == b'/').next().unwrap_or_default()).into_owned();
        if pid == me || program == "virt-up" || !OURS.iter().any(|o| program.starts_with(o)) {
            continue;
        }
        if names(&args, root) {
            found.push((pid, program));
        }
    }
    found
}

/// Whether `haystack` holds `root` as a whole path or as the start of one: `/a/b` is not named by `/a/bc`.
fn names(haystack: &[u8], root: &[u8]) -> bool {
    if root.is_empty() {
        return false;
    }
    haystack.windows(root.len()).enumerate().any(|(i, w)| {
        let before = i.checked_sub(1).and_then(|b| haystack.get(b));
        let after = haystack.get(i + root.len());
        w == root
            && !before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_'))
            && !after.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    })
}

/// Kills everything [`find`] names, waits until it is gone and removes the guests' control groups. Returns what was
/// killed.
pub fn kill_all(root: &Path) -> Vec<(Pid, String)> {
    let mut killed: Vec<(Pid, String)> = Vec::new();
    let mut groups = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let living = find(root);
        if living.is_empty() || Instant::now() > end {
            remove_groups(&groups);
            return killed;
        }
        for (pid, program) in living {
            groups
                .extend(guest_groups(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()));
            let _ = kill(pid, Signal::SIGKILL);
            if !killed.iter().any(|(p, _)| *p == pid) {
                killed.push((pid, program));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The guests' own groups in the text of a process's cgroup file: partition and name.
fn guest_groups(text: &str) -> Vec<(String, String)> {
    let paths = text.lines().filter_map(|l| l.splitn(3, ':').nth(2));
    let mut groups: Vec<_> = paths
        .filter_map(|path| {
            // Below the group itself are those of its threads.
            let end = path.find(".libvirt-qemu")? + ".libvirt-qemu".len();
            path.get(..end)?.rsplit_once('/').map(|(dir, name)| (dir.to_owned(), name.to_owned()))
        })
        .collect();
    groups.sort();
    groups.dedup();
    groups
}

fn remove_groups(groups: &[(String, String)]) {
    let Ok(layout) = Layout::detect() else { return };
    for (partition, name) in groups {
        let _ = layout.locate(partition, name).remove();
    }
    // A root's own partition goes with its last guest; the host's shared one stays.
    for (partition, _) in groups.iter().filter(|(partition, _)| partition.ends_with(".partition")) {
        layout.remove_partition(partition);
    }
}

#[cfg(test)]
mod tests {
    use super::{guest_groups, names};

    #[test]
    fn finds_a_guests_group_once() {
        let text = "5:cpu,cpuacct:/machine/qemu-1-a.libvirt-qemu/vcpu0\n4:memory:/machine/qemu-1-a.libvirt-qemu\n0::/\n";
        assert_eq!(guest_groups(text), [("/machine".to_owned(), "qemu-1-a.libvirt-qemu".to_owned())]);
    }

    #[test]
    fn a_root_is_named_as_a_whole_path() {
        for yes in ["--root\0/t/a\0", "path=/t/a/run/x,id=1", "/t/a", "X=/t/a\0"] {
            assert!(names(yes.as_bytes(), b"/t/a"), "{yes:?}");
        }
        for no in ["/t/ab/run", "/t/a-1/x", "/x/t/a", "", "/t"] {
            assert!(!names(no.as_bytes(), b"/t/a"), "{no:?}");
        }
    }
}
