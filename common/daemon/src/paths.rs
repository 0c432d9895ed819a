//! Where a daemon's files are: libvirt's places, moved as a whole by `--root` or into the user's folders.

use std::env;
use std::path::{Path, PathBuf};

use virt_error::{Domain, Error, Result};

/// Whose guests the daemon serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The host's: `qemu:///system`.
    System,
    /// One user's: `qemu:///session`.
    Session,
}

/// The folders of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Whose they are.
    pub mode: Mode,
    /// Configuration and definitions: /etc/libvirt.
    pub etc: PathBuf,
    /// Sockets and state until the next boot: /run/libvirt.
    pub run: PathBuf,
    /// Disk images and private data: /var/lib/libvirt.
    pub lib: PathBuf,
    /// Logs of guests: /var/log/libvirt.
    pub log: PathBuf,
    /// What can be made again: /var/cache/libvirt.
    pub cache: PathBuf,
    /// Where pid files are: /run for the system, the run folder itself for a session.
    pub pid: PathBuf,
}

impl Paths {
    /// The system's folders, under `root` if given.
    pub fn system(root: Option<&Path>) -> Self {
        let root = root.unwrap_or(Path::new("/"));
        Self {
            mode: Mode::System,
            etc: root.join("etc/libvirt"),
            run: root.join("run/libvirt"),
            lib: root.join("var/lib/libvirt"),
            log: root.join("var/log/libvirt"),
            cache: root.join("var/cache/libvirt"),
            pid: root.join("run"),
        }
    }

    /// The user's folders, by the XDG variables and their defaults.
    pub fn session() -> Result<Self> {
        Self::session_from(|name| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute()))
    }

    fn session_from(var: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let home = var("HOME");
        let xdg = |name: &str, default: &str| {
            let missing = || Error::internal(Domain::None, format!("neither {name} nor HOME is set"));
            let dir = var(name).or_else(|| Some(home.as_ref()?.join(default)));
            dir.map(|d| d.join("libvirt")).ok_or_else(missing)
        };
        let cache = xdg("XDG_CACHE_HOME", ".cache")?;
        // Without a runtime folder libvirt's clients look in the cache folder too.
        let run = var("XDG_RUNTIME_DIR").map_or_else(|| cache.clone(), |d| d.join("libvirt"));
        Ok(Self {
            mode: Mode::Session,
            etc: xdg("XDG_CONFIG_HOME", ".config")?,
            lib: xdg("XDG_DATA_HOME", ".local/share")?,
            log: cache.clone(),
            cache,
            pid: run.clone(),
            run,
        })
    }

    /// The folder of gRPC sockets and descriptor channels.
    pub fn grpc(&self) -> PathBuf {
        self.run.join("grpc")
    }

    /// The sockets that libvirt's own clients connect to, with whether the clients of each may only look. These are the
    /// listeners whose clients virtproxyd may hand over.
    pub fn legacy_sockets(&self) -> Vec<(PathBuf, bool)> {
        const DRIVERS: &[&str] = &[
            "libvirt",
            "virtqemud",
            "virtlxcd",
            "virtxend",
            "virtnetworkd",
            "virtstoraged",
            "virtsecretd",
            "virtnodedevd",
            "virtinterfaced",
            "virtnwfilterd",
        ];
        let both = |d: &&str| {
            [(self.run.join(format!("{d}-sock")), false), (self.run.join(format!("{d}-sock-ro")), true)]
        };
        DRIVERS.iter().flat_map(both).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_moves_everything() {
        let p = Paths::system(Some(Path::new("/r")));
        assert_eq!(p.etc, Path::new("/r/etc/libvirt"));
        assert_eq!(p.grpc(), Path::new("/r/run/libvirt/grpc"));
        assert_eq!(Paths::system(None).run, Path::new("/run/libvirt"));
    }

    #[test]
    fn a_session_follows_xdg() {
        let vars = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/5".into()),
            _ => None,
        };
        let p = Paths::session_from(vars).unwrap();
        assert_eq!(p.run, Path::new("/run/user/5/libvirt"));
        assert_eq!(p.etc, Path::new("/home/u/.config/libvirt"));
        assert_eq!(p.lib, Path::new("/home/u/.local/share/libvirt"));
        assert_eq!(p.cache, Path::new("/home/u/.cache/libvirt"));
        assert!(Paths::session_from(|_| None).is_err());
    }

    #[test]
    fn read_only_sockets_are_marked() {
        let sockets = Paths::system(None).legacy_sockets();
        assert!(sockets.contains(&("/run/libvirt/libvirt-sock-ro".into(), true)));
        assert!(sockets.contains(&("/run/libvirt/virtqemud-sock".into(), false)));
    }
}
