//! Values between processes: a memory file that nobody can change any more.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use virt_error::{Code, Domain, Error, Result};
use zeroize::Zeroizing;

use crate::{MAX_VALUE, Value};

/// Without these the other side could change length or bytes while they are read.
const NEEDED: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

impl Value {
    /// A sealed memory file with the value, for the descriptor channel. It never has a name in a file system.
    ///
    /// # Errors
    /// Code 38 when the kernel has no room.
    pub fn to_memfd(&self) -> Result<OwnedFd> {
        let failed = |e| Error::system(Domain::Secret, "cannot make a memory file", e);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("secret", flags).map_err(|e| failed(e.into()))?);
        file.write_all(self.bytes()).map_err(failed)?;
        fcntl_add_seals(&file, NEEDED | SealFlags::SEAL).map_err(|e| failed(e.into()))?;
        Ok(file.into())
    }

    /// Reads a sealed memory file from another process.
    ///
    /// # Errors
    /// Code 8 for any other kind of file, or one that is too long.
    pub fn from_memfd(descriptor: OwnedFd) -> Result<Self> {
        let refused = |why: &str| {
            Error::new(Code::InvalidArg, Domain::Secret, format!("the descriptor of a secret's value {why}"))
        };
        // Only memory files have seals; a pipe or a file on a dead server must not even be read.
        let seals = fcntl_get_seals(&descriptor).map_err(|_| refused("is no memory file"))?;
        if !seals.contains(NEEDED) {
            return Err(refused("is not sealed"));
        }
        let failed = |e| Error::system(Domain::Secret, "cannot read a memory file", e);
        let file = File::from(descriptor);
        let size = file.metadata().map_err(failed)?.len();
        let size =
            usize::try_from(size).ok().filter(|s| *s <= MAX_VALUE).ok_or_else(|| refused("is too long"))?;
        let mut bytes = Zeroizing::new(vec![0; size]);
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_crosses_sealed() {
        let fd = Value::new(b"hunter2".to_vec()).to_memfd().unwrap();
        let mut copy = File::from(fd.try_clone().unwrap());
        assert!(copy.write_all(b"x").is_err() && copy.set_len(3).is_err(), "it can be changed");
        assert_eq!(Value::from_memfd(fd).unwrap().bytes(), b"hunter2");
    }

    #[test]
    fn other_descriptors_are_refused() {
        let refused = |fd: OwnedFd| Value::from_memfd(fd).unwrap_err().message();
        let file = tempfile::tempfile().unwrap();
        // A file in memory answers like one, but cannot be sealed.
        let text = refused(file.into());
        assert!(text.contains("is no memory file") || text.contains("is not sealed"), "{text}");
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(refused(open).contains("is not sealed"));
        let (read, _write) = std::io::pipe().unwrap();
        assert!(refused(read.into()).contains("is no memory file"));
        let long = Value::new(vec![1; MAX_VALUE + 1]).to_memfd().unwrap();
        assert!(refused(long).contains("is too long"));
    }
}
