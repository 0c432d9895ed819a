//! Files a guest uses belong to QEMU's user while it runs, and to their owner again afterwards.
//!
//! The owner is remembered on the file itself, in libvirt's own extended attributes, so that either daemon can give
//! it back and several guests can share a file:
//!
//! ```text
//!   trusted.libvirt.security.dac            +UID:+GID    the owner before the first guest
//!   trusted.libvirt.security.ref_dac        N            guests that use the file
//!   trusted.libvirt.security.timestamp_dac  SECONDS      boot time: what an earlier boot left does not count
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
use rustix::io::Errno;
use virt_error::{Domain, Error, Result};

const OWNER: &str = "trusted.libvirt.security.dac";
const COUNT: &str = "trusted.libvirt.security.ref_dac";
/// Whose a file is afterwards when nobody remembers, as in the reference.
const ROOT: Owner = Owner { uid: 0, gid: 0 };
const BOOT: &str = "trusted.libvirt.security.timestamp_dac";

/// Reading, counting and writing the attributes of a file is one step.
static ATTRIBUTES: Mutex<()> = Mutex::new(());

/// Who a guest's files shall belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Changes owners of files and gives them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dac {
    /// Off: files stay as they are (`dynamic_ownership = 0`, or a daemon that is not root).
    pub enabled: bool,
    /// Keep the owner in extended attributes (`remember_owner`).
    pub remember: bool,
    /// The host's boot time, seconds since 1970.
    pub boot: u64,
    /// QEMU's user.
    pub qemu: Option<Owner>,
}

impl Dac {
    /// Ownership changes as configured; a daemon that is not root changes none.
    pub fn new(dynamic: bool, remember: bool, qemu: Option<Owner>) -> Self {
        let enabled = dynamic && rustix::process::geteuid().is_root();
        Self { enabled, remember, boot: boot_time().unwrap_or(0), qemu }
    }

    /// Gives `path` to `owner`, remembering whose it was.
    pub fn give(&self, path: &Path, owner: Owner) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let _one = ATTRIBUTES.lock();
        let meta = fs::metadata(path).map_err(|e| security("unable to stat: ", path, e))?;
        if self.remember {
            let was = Owner { uid: meta.uid(), gid: meta.gid() };
            self.remember(path, was).map_err(|e| security("unable to remember the owner of ", path, e))?;
        }
        if (meta.uid(), meta.gid()) == (owner.uid, owner.gid) {
            return Ok(());
        }
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| {
            if self.remember {
                // The change did not happen, so this guest does not count.
                drop(self.recall(path));
            }
            let what = format!("unable to set user and group to '{}:{}' on ", owner.uid, owner.gid);
            security(&what, path, e)
        })
    }

    /// Gives `path` back when the last guest that uses it has ended. A file that is gone is no fault.
    pub fn give_back(&self, path: &Path) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let _one = ATTRIBUTES.lock();
        let Ok(meta) = fs::metadata(path) else { return Ok(()) };
        let recalled = if self.remember {
            self.recall(path).map_err(|e| security("unable to recall the owner of ", path, e))?
        } else {
            Recalled::Unknown
        };
        let owner = match recalled {
            Recalled::Shared => return Ok(()),
            Recalled::Owner(owner) => owner,
            // Nobody remembers an owner, and the file is not QEMU's: it was given back before.
            Recalled::Unknown if self.qemu != Some(Owner { uid: meta.uid(), gid: meta.gid() }) => {
                return Ok(());
            }
            Recalled::Unknown => ROOT,
        };
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(|e| security("unable to give back ", path, e))
    }

    /// How many guests are known to use the file; 0 where that is not kept.
    pub fn users(&self, path: &Path) -> u32 {
        let _one = ATTRIBUTES.lock();
        if self.enabled && self.remember { self.count(path).unwrap_or(0) } else { 0 }
    }

    /// Counts one more user of the file. File systems without such attributes remember nothing.
    fn remember(&self, path: &Path, owner: Owner) -> io::Result<()> {
        let count = match self.count(path) {
            Ok(count) => count,
            Err(e) if unsupported(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let set = |name, value: String| setxattr(path, name, value.as_bytes(), XattrFlags::empty());
        let done = (|| {
            if count == 0 {
                set(OWNER, format!("+{}:+{}", owner.uid, owner.gid))?;
                set(BOOT, self.boot.to_string())?;
            }
            set(COUNT, (count + 1).to_string())
        })();
        match done.map_err(io::Error::from) {
            Err(e) if unsupported(&e) => Ok(()),
            done => done,
        }
    }

    fn recall(&self, path: &Path) -> io::Result<Recalled> {
        let count = match self.count(path) {
            Ok(0) => return Ok(Recalled::Unknown),
            Ok(count) => count,
            Err(e) if unsupported(&e) => return Ok(Recalled::Unknown),
            Err(e) => return Err(e),
        };
        if count > 1 {
            setxattr(path, COUNT, (count - 1).to_string().as_bytes(), XattrFlags::empty())?;
            return Ok(Recalled::Shared);
        }
        let owner = read(path, OWNER)?.as_deref().and_then(parse_owner);
        forget(path)?;
        Ok(owner.map_or(Recalled::Unknown, Recalled::Owner))
    }

    /// How many guests of this boot use the file.
    fn count(&self, path: &Path) -> io::Result<u32> {
        if read(path, BOOT)?.and_then(|t| t.parse().ok()) != Some(self.boot) {
            return Ok(0);
        }
        Ok(read(path, COUNT)?.and_then(|t| t.parse().ok()).unwrap_or(0))
    }
}

enum Recalled {
    /// Another guest uses it still.
    Shared,
    Owner(Owner),
    /// Nobody remembered.
    Unknown,
}

fn unsupported(e: &io::Error) -> bool {
    let code = e.raw_os_error();
    [Errno::NOTSUP, Errno::NOSYS, Errno::PERM, Errno::ROFS].iter().any(|e| Some(e.raw_os_error()) == code)
}

fn read(path: &Path, name: &str) -> io::Result<Option<String>> {
    let mut value = [0u8; 64];
    match getxattr(path, name, &mut value) {
        Ok(length) => Ok(value.get(..length).and_then(|v| String::from_utf8(v.to_vec()).ok())),
        Err(Errno::NODATA) => Ok(None),
        // Longer than anything libvirt writes: not ours.
        Err(Errno::RANGE) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn forget(path: &Path) -> io::Result<()> {
    for name in [OWNER, COUNT, BOOT] {
        match removexattr(path, name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// "+64055:+64055"; libvirt writes numbers with a plus sign.
pub fn parse_owner(text: &str) -> Option<Owner> {
    let (uid, gid) = text.split_once(':')?;
    let number = |t: &str| t.strip_prefix('+').unwrap_or(t).parse().ok();
    Some(Owner { uid: number(uid)?, gid: number(gid)? })
}

fn boot_time() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

fn security(what: &str, path: &Path, e: io::Error) -> Error {
    Error::system(Domain::Security, format!("{what}{}", path.display()), e)
}

/// Files given to a guest, each once, to be given back together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Given(Vec<PathBuf>);

impl Given {
    /// Paths that were given away earlier, of a guest that was adopted.
    pub fn known(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().collect())
    }

    /// Gives all of `paths`; on failure those given so far are given back.
    pub fn all(dac: &Dac, paths: &[PathBuf], owner: Owner) -> Result<Self> {
        let mut given = Self::default();
        for path in paths {
            if let Err(e) = dac.give(path, owner) {
                given.back(dac);
                return Err(e);
            }
            given.0.push(path.clone());
        }
        Ok(given)
    }

    /// Keeps only some of the files.
    pub fn retain(&mut self, which: impl Fn(&Path) -> bool) {
        self.0.retain(|path| which(path));
    }

    /// Gives one more file.
    pub fn add(&mut self, dac: &Dac, path: &Path, owner: Owner) -> Result<()> {
        dac.give(path, owner)?;
        self.0.push(path.to_path_buf());
        Ok(())
    }

    /// Gives one file back, if it was given. A failure is logged.
    pub fn one_back(&mut self, dac: &Dac, path: &Path) {
        let Some(at) = self.0.iter().rposition(|p| p == path) else { return };
        self.0.remove(at);
        if let Err(error) = dac.give_back(path) {
            tracing::warn!(path = %path.display(), ?error, "could not give a file back to its owner");
        }
    }

    /// Gives everything back. A failure is logged: the guest has ended whatever happens.
    pub fn back(&self, dac: &Dac) {
        for path in self.0.iter().rev() {
            if let Err(error) = dac.give_back(path) {
                tracing::warn!(path = %path.display(), ?error, "could not give a file back to its owner");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU: Owner = Owner { uid: 64055, gid: 993 };
    const DAC: Dac = Dac { enabled: true, remember: true, boot: 1_700_000_000, qemu: Some(QEMU) };

    fn owner(path: &Path) -> (u32, u32) {
        let m = fs::metadata(path).expect("a file");
        (m.uid(), m.gid())
    }

    /// A file of 12:34, or nothing where the test cannot run.
    fn file(dir: &Path) -> Option<PathBuf> {
        let path = dir.join("disk");
        fs::write(&path, "x").expect("written");
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        if setxattr(&path, COUNT, b"0", XattrFlags::empty()).is_err() {
            eprintln!("skipped: the file system has no trusted attributes");
            return None;
        }
        forget(&path).expect("forgotten");
        chown(&path, Some(12), Some(34)).expect("changed");
        Some(path)
    }

    #[test]
    fn an_owner_gets_the_file_back_after_the_last_guest() {
        let dir = tempfile::tempdir().expect("a folder");
        let Some(path) = file(dir.path()) else { return };
        DAC.give(&path, QEMU).expect("given");
        DAC.give(&path, QEMU).expect("given twice");
        assert_eq!(owner(&path), (64055, 993));
        assert_eq!(read(&path, OWNER).expect("read").as_deref(), Some("+12:+34"));
        assert_eq!(read(&path, COUNT).expect("read").as_deref(), Some("2"));
        DAC.give_back(&path).expect("back");
        assert_eq!(owner(&path), (64055, 993), "still used");
        DAC.give_back(&path).expect("back");
        assert_eq!(owner(&path), (12, 34));
        assert_eq!(read(&path, OWNER).expect("read"), None, "nothing is left on the file");
        DAC.give_back(&path).expect("back twice, after a crash in the middle");
        assert_eq!(owner(&path), (12, 34));
    }

    #[test]
    fn an_earlier_boot_does_not_count() {
        let dir = tempfile::tempdir().expect("a folder");
        let Some(path) = file(dir.path()) else { return };
        Dac { boot: 5, ..DAC }.give(&path, QEMU).expect("given");
        chown(&path, Some(12), Some(34)).expect("somebody repaired it");
        DAC.give(&path, QEMU).expect("given");
        assert_eq!(read(&path, COUNT).expect("read").as_deref(), Some("1"));
        DAC.give_back(&path).expect("back");
        assert_eq!(owner(&path), (12, 34));
    }

    #[test]
    fn odd_attributes_do_no_harm() {
        let dir = tempfile::tempdir().expect("a folder");
        let Some(path) = file(dir.path()) else { return };
        for value in [&b"\xff\xff"[..], &[b'9'; 100], b"", b"-1"] {
            setxattr(&path, COUNT, value, XattrFlags::empty()).expect("set");
            setxattr(&path, BOOT, DAC.boot.to_string().as_bytes(), XattrFlags::empty()).expect("set");
            DAC.give(&path, QEMU).expect("given");
            DAC.give_back(&path).expect("back");
            assert_eq!(owner(&path), (12, 34));
        }
        assert_eq!(parse_owner("+5:+6"), Some(Owner { uid: 5, gid: 6 }));
        assert_eq!(parse_owner("5"), None);
    }

    #[test]
    fn a_failure_gives_the_others_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let Some(path) = file(dir.path()) else { return };
        let e = Given::all(&DAC, &[path.clone(), dir.path().join("gone")], QEMU).expect_err("no such file");
        assert_eq!(
            e.message(),
            format!("unable to stat: {}/gone: No such file or directory", dir.path().display())
        );
        assert_eq!(owner(&path), (12, 34));
    }
}
