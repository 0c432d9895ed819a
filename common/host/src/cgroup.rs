//! Control groups without a service manager: folders of our own in every hierarchy, version 1 and 2 alike.
//!
//! ```text
//!   /sys/fs/cgroup/<controller>/machine/qemu-1-NAME.libvirt-qemu     version 1, one folder a controller
//!   /sys/fs/cgroup[/unified]/machine/qemu-1-NAME.libvirt-qemu        version 2
//! ```
//!
//! This is the layout of libvirt on hosts without systemd. The reader of the layout takes a `mountinfo` text and the
//! folders are plain files to us, so tests use a temporary folder.

mod control;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use control::Refused;

/// The controllers of version 1 that guests are put under.
const USED: [&str; 5] = ["cpu", "cpuset", "memory", "blkio", "freezer"];
/// The controllers of version 2 that are switched on for guests where the kernel has them.
const WANTED: [&str; 4] = ["cpu", "cpuset", "memory", "io"];

/// Where the hierarchies are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Version 1: controllers and mount point.
    v1: Vec<(Vec<String>, PathBuf)>,
    /// Version 2's mount point.
    v2: Option<PathBuf>,
}

impl Layout {
    /// The layout of this host. Empty when no hierarchy is mounted.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// From the text of a mountinfo file, see proc(5).
    pub fn parse(mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(at) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
            match kind {
                "cgroup2" if layout.v2.is_none() => layout.v2 = Some(at.into()),
                "cgroup" => {
                    let found: Vec<String> =
                        options.split(',').filter(|o| USED.contains(o)).map(Into::into).collect();
                    let known = layout.v1.iter().any(|(c, _)| *c == found);
                    if !found.is_empty() && !known {
                        layout.v1.push((found, at.into()));
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// Makes the group `name` under `partition` ("/machine") in every hierarchy.
    ///
    /// A group that exists already and holds no process is taken over: it is what a killed daemon left. On failure
    /// nothing is left behind.
    pub fn create(&self, partition: &str, name: &str) -> io::Result<Group> {
        let mut group = self.locate(partition, name);
        for (at, (controllers, mount)) in group.dirs.iter().zip(self.mounts()) {
            let made = make(mount, at, controllers);
            if let Err(e) = made {
                group.remove()?;
                return Err(e);
            }
        }
        group.dirs.retain(|d| d.is_dir());
        Ok(group)
    }

    /// The first hierarchy in which the partition is missing: version and folder.
    pub fn missing(&self, partition: &str) -> Option<(u8, PathBuf)> {
        let at = |mount: &Path| mount.join(partition.trim_start_matches('/'));
        // Version 2 is looked at first, as the reference does.
        let v2 = self.v2.iter().map(|mount| (2, at(mount)));
        v2.chain(self.v1.iter().map(|(_, mount)| (1, at(mount)))).find(|(_, dir)| !dir.is_dir())
    }

    /// The group's folders, whether they exist or not.
    pub fn locate(&self, partition: &str, name: &str) -> Group {
        let below = Path::new(partition.trim_start_matches('/')).join(name);
        let dirs = self.mounts().map(|(_, mount)| mount.join(&below)).collect();
        let controllers = self.mounts().map(|(c, _)| c.map(<[String]>::to_vec)).collect();
        Group { dirs, controllers }
    }

    /// Removes a partition that holds no group any more. One that does stays, and is no fault.
    pub fn remove_partition(&self, partition: &str) {
        for (_, mount) in self.mounts() {
            // Busy, missing, or gone now.
            let _ = fs::remove_dir(mount.join(partition.trim_start_matches('/')));
        }
    }

    /// `None` marks version 2.
    fn mounts(&self) -> impl Iterator<Item = (Option<&[String]>, &Path)> {
        let v1 = self.v1.iter().map(|(c, m)| (Some(c.as_slice()), m.as_path()));
        v1.chain(self.v2.iter().map(|m| (None, m.as_path())))
    }
}

fn make(mount: &Path, dir: &Path, controllers: Option<&[String]>) -> io::Result<()> {
    let Ok(below) = dir.strip_prefix(mount) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut at = mount.to_path_buf();
    for part in below {
        let parent = at.clone();
        at.push(part);
        if controllers.is_none() {
            enable(&parent);
        }
        match fs::create_dir(&at) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        if controllers.is_some_and(|c| c.iter().any(|c| c == "cpuset")) {
            inherit(&parent, &at, "cpuset.cpus")?;
            inherit(&parent, &at, "cpuset.mems")?;
        }
    }
    Ok(())
}

/// Lets children of a version 2 group use controllers. One that is busy in version 1 or missing is no fault.
fn enable(parent: &Path) {
    for controller in WANTED {
        if fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")).is_err() {
            tracing::trace!(controller, parent = %parent.display(), "controller not available");
        }
    }
}

/// A fresh cpuset of version 1 is empty and takes no process.
fn inherit(parent: &Path, child: &Path, file: &str) -> io::Result<()> {
    if fs::read_to_string(child.join(file)).is_ok_and(|s| s.trim().is_empty()) {
        fs::write(child.join(file), fs::read_to_string(parent.join(file))?.trim())?;
    }
    Ok(())
}

/// One guest's folders in all hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    dirs: Vec<PathBuf>,
    controllers: Vec<Option<Vec<String>>>,
}

impl Group {
    /// The files through which a process enters the group.
    pub fn procs(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|d| d.join("cgroup.procs")).collect()
    }

    /// The folder in which `controller` is set: the version 1 one, else the version 2 one.
    pub fn dir(&self, controller: &str) -> Option<&Path> {
        let named = |c: &Option<Vec<String>>| c.as_ref().is_some_and(|c| c.iter().any(|c| c == controller));
        let at = self.controllers.iter().position(named);
        let at = at.or_else(|| self.controllers.iter().position(Option::is_none))?;
        self.dirs.get(at).map(PathBuf::as_path)
    }

    /// The processes inside, each once.
    pub fn members(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        let mut folders: Vec<PathBuf> = self.dirs.clone();
        while let Some(dir) = folders.pop() {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()));
            let inside = fs::read_dir(&dir).into_iter().flatten().flatten();
            folders.extend(inside.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the folders and those inside them. A missing one is no fault.
    ///
    /// Errors: a process is still inside (EBUSY); the other folders are removed nevertheless.
    pub fn remove(&self) -> io::Result<()> {
        let mut first = Ok(());
        for dir in &self.dirs {
            let done = remove(dir);
            if first.is_ok() {
                first = done;
            }
        }
        first
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime shared:3 - cgroup cgroup rw,cpuset
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn layouts_are_read_from_mountinfo() {
        let layout = Layout::parse(HYBRID);
        let group = layout.locate("/machine", "qemu-1-a.libvirt-qemu");
        assert_eq!(
            group.procs(),
            ["cpu", "cpuset", "unified"].map(|c| PathBuf::from(format!(
                "/sys/fs/cgroup/{c}/machine/qemu-1-a.libvirt-qemu/cgroup.procs"
            )))
        );
        assert_eq!(group.dir("cpuset"), Some(&*group.dirs[1]));
        assert_eq!(group.dir("memory"), Some(&*group.dirs[2]), "version 2 has the rest");
        assert_eq!(Layout::parse("rubbish\n- - -\n\n"), Layout::default());
    }

    /// The kernel's control files vanish with their folder; ours of the test have to be removed by hand.
    fn fake(root: &Path) -> Layout {
        for (folder, files) in [("cpuset", &["cpuset.cpus", "cpuset.mems"][..]), ("v2", &[])] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
            for file in files {
                fs::write(root.join(folder).join(file), "0-1\n").expect("a file");
            }
        }
        Layout { v1: vec![(vec!["cpuset".into()], root.join("cpuset"))], v2: Some(root.join("v2")) }
    }

    #[test]
    fn groups_come_and_go() {
        let root = tempfile::tempdir().expect("a folder");
        let layout = fake(root.path());
        let group = layout.create("/machine", "g").expect("made");
        assert!(root.path().join("cpuset/machine/g").is_dir() && root.path().join("v2/machine/g").is_dir());
        fs::create_dir(root.path().join("v2/machine/g/vcpu0")).expect("a child");
        layout.create("/machine", "g").expect("what was left over is taken over");
        group.remove().expect("removed");
        assert!(!root.path().join("cpuset/machine/g").exists() && !root.path().join("v2/machine/g").exists());
        group.remove().expect("nothing to remove is no fault");
    }

    #[test]
    fn a_half_made_group_leaves_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let layout = fake(root.path());
        fs::create_dir(root.path().join("v2/machine")).expect("a folder");
        fs::write(root.path().join("v2/machine/g"), "in the way").expect("a file");
        fs::remove_dir_all(root.path().join("v2")).expect("gone");
        fs::write(root.path().join("v2"), "no folder").expect("a file");
        assert!(layout.create("/machine", "g").is_err());
        assert!(!root.path().join("cpuset/machine/g").exists());
    }
}
