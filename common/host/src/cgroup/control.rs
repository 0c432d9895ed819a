//! What a group's controllers allow, and groups of single threads inside it.
//!
//! ```text
//!   .../cpu/machine/qemu-1-NAME.libvirt-qemu            the whole guest
//!   .../cpu/machine/qemu-1-NAME.libvirt-qemu/vcpu0      one processor's thread
//!                                       .../emulator    threads that are neither processors nor I/O threads
//! ```
//!
//! Groups of threads exist in the hierarchy of the processor controller alone, from when a limit of theirs is set.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Group, make};

/// A control file that does not take a value, or is not there.
#[derive(Debug)]
pub struct Refused {
    /// The file; the controller's name when the host has none.
    pub path: PathBuf,
    /// What was written.
    pub value: String,
    /// Why not.
    pub cause: io::Error,
}

impl Group {
    /// Whether the host has this controller for the group.
    pub fn has(&self, controller: &str) -> bool {
        let named = |c: &Option<Vec<String>>| c.as_ref().is_some_and(|c| c.iter().any(|c| c == controller));
        let wanted = if controller == "blkio" { "io" } else { controller };
        let unified = |dir: &PathBuf| {
            let text = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            text.split_whitespace().any(|c| c == wanted)
        };
        let mut both = self.controllers.iter().zip(&self.dirs);
        both.any(|(controllers, dir)| {
            dir.is_dir() && (named(controllers) || controllers.is_none() && unified(dir))
        })
    }

    /// The first of these files of a controller that the group has.
    pub fn file(&self, controller: &str, files: &[&str]) -> Option<PathBuf> {
        let dir = self.dir(controller)?;
        files.iter().map(|f| dir.join(f)).find(|f| f.exists())
    }

    /// Writes a value to the first of these files that the group has; versions name and write values differently.
    ///
    /// # Errors
    /// NotFound when the host has no such file; what the kernel says of the value.
    pub fn write(&self, controller: &str, files: &[&str], value: &str) -> Result<(), Refused> {
        let refused = |path: PathBuf| |cause| Refused { path, value: value.into(), cause };
        let Some(path) = self.file(controller, files) else {
            return Err(refused(controller.into())(io::ErrorKind::NotFound.into()));
        };
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(refused(path))
    }

    /// The content of the first of these files that the group has.
    pub fn read(&self, controller: &str, files: &[&str]) -> Option<String> {
        let text = fs::read_to_string(self.file(controller, files)?).ok()?;
        Some(text.trim().to_string())
    }

    /// Makes the group `name` of single threads inside, or finds it.
    ///
    /// # Errors
    /// NotFound when the host has no processor controller; what the kernel says.
    pub fn make_threads(&self, name: &str) -> io::Result<Self> {
        let parent = self.dir("cpu").ok_or(io::ErrorKind::NotFound)?;
        let at = self.dirs.iter().position(|d| d == parent).ok_or(io::ErrorKind::NotFound)?;
        let controllers = self.controllers.get(at).cloned().flatten();
        let dir = parent.join(name);
        make(parent, &dir, controllers.as_deref())?;
        if controllers.is_none() {
            let kind = dir.join("cgroup.type");
            if fs::read_to_string(&kind)?.trim() != "threaded" {
                fs::write(&kind, "threaded")?;
            }
            // Only now may a group with processes in it pass the controller on.
            fs::write(parent.join("cgroup.subtree_control"), "+cpu")?;
        }
        Ok(Self { dirs: vec![dir], controllers: vec![controllers] })
    }

    /// Moves one thread into this group of threads. A thread that has ended is no fault.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self, thread: i32) -> io::Result<()> {
        for (dir, controllers) in self.dirs.iter().zip(&self.controllers) {
            let file = dir.join(if controllers.is_some() { "tasks" } else { "cgroup.threads" });
            match fs::write(file, thread.to_string()) {
                // ESRCH
                Err(e) if e.raw_os_error() == Some(3) => {}
                done => done?,
            }
        }
        Ok(())
    }
}
