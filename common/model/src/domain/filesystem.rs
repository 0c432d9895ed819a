//! Folders shared with the guest.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Lenient, Mode, OnOff, Xml, names, not_zero};

use super::disk::VirtioModel;
use super::info::{DeviceInfo, VirtioOptions};
use crate::Size;

names! {
    /// How ownership in the guest maps to the host.
    pub enum AccessMode { Passthrough = "passthrough", Mapped = "mapped", Squash = "squash", Default = "default" }
    /// What becomes of files on other devices.
    pub enum Multidevs { Default = "default", Remap = "remap", Forbid = "forbid", Warn = "warn" }
    /// Who serves the files.
    pub enum FsDriverType {
        Default = "default", Path = "path", Handle = "handle", Loop = "loop", Nbd = "nbd", Ploop = "ploop",
        Virtiofs = "virtiofs", Mtp = "mtp"
    }
    /// When writes reach the disk.
    pub enum WritePolicy { Default = "default", Immediate = "immediate" }
    /// virtiofsd's caching.
    pub enum FsCacheMode { Default = "default", None = "none", Always = "always" }
    /// virtiofsd's sandbox.
    pub enum SandboxMode { Default = "default", Namespace = "namespace", Chroot = "chroot" }
}

/// Permissions in octal digits; written with four.
pub struct Permissions;

impl virt_xml::Codec<String> for Permissions {
    fn parse(text: &str) -> std::result::Result<String, virt_xml::Bad> {
        let mode = virt_xml::parse_int(text, 8).and_then(|n| u32::try_from(n).ok());
        match mode {
            Some(mode) if mode <= 0o777 => Ok(format!("{mode:04o}")),
            _ => Err(virt_xml::Bad::Expected("Expected non-negative integer value")),
        }
    }
    fn put(value: &String, out: &mut String) {
        out.push_str(value);
    }
}

/// `<filesystem>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Filesystem {
    #[xml(child)]
    pub driver: FsDriver,
    #[xml(child)]
    pub binary: FsBinary,
    #[xml(child, write_when = Filesystem::maps_both)]
    pub idmap: IdMap,
    /// Writes the `type` attribute too.
    #[xml(flatten)]
    pub source: FsSource,
    #[xml(attr, loose)]
    pub accessmode: Option<AccessMode>,
    /// Octal permissions of new files.
    #[xml(attr, with = Permissions)]
    pub fmode: Option<String>,
    /// Octal permissions of new folders.
    #[xml(attr, with = Permissions)]
    pub dmode: Option<String>,
    #[xml(attr)]
    pub multidevs: Option<Multidevs>,
    #[xml(attr)]
    pub model: Option<VirtioModel>,
    #[xml(attr = "target@dir")]
    pub target: Option<String>,
    #[xml(flag)]
    pub readonly: bool,
    #[xml(flatten)]
    pub info: DeviceInfo,
    #[xml(child)]
    pub space_hard_limit: Option<Size>,
    #[xml(child)]
    pub space_soft_limit: Option<Size>,
}

impl Filesystem {
    /// Users and groups are mapped together.
    fn maps_both(&self) -> bool {
        !self.idmap.uids.is_empty() && !self.idmap.gids.is_empty()
    }
}

/// What is shared.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "type", default = "mount")]
pub enum FsSource {
    #[xml("mount", child = "source")]
    Mount(FsMount),
    #[xml("block", child = "source")]
    Block(FsDev),
    #[xml("file", child = "source")]
    File(FsFile),
    #[xml("template", child = "source")]
    Template(FsTemplate),
    #[xml("ram", child = "source")]
    Ram(FsRam),
    #[xml("bind", child = "source")]
    Bind(FsMount),
    #[xml("volume", child = "source")]
    Volume(FsVolume),
}

impl Default for FsSource {
    fn default() -> Self {
        Self::Mount(FsMount::default())
    }
}

/// A folder, or the socket of a running virtiofsd.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsMount {
    #[xml(attr)]
    pub dir: Option<String>,
    #[xml(attr)]
    pub socket: Option<String>,
}

/// A block device with a file system.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsDev {
    #[xml(attr)]
    pub dev: Option<String>,
}

/// An image with a file system.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsFile {
    #[xml(attr)]
    pub file: Option<String>,
}

/// A named template.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsTemplate {
    #[xml(attr)]
    pub name: Option<String>,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsRam {
    #[xml(attr)]
    pub usage: u64,
    #[xml(attr)]
    pub units: Option<String>,
}

/// A pool's volume.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsVolume {
    #[xml(attr)]
    pub pool: Option<String>,
    #[xml(attr)]
    pub volume: Option<String>,
}

/// How files are served.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsDriver {
    #[xml(attr = "type")]
    pub kind: Option<FsDriverType>,
    #[xml(attr)]
    pub format: Option<String>,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub wrpolicy: Option<WritePolicy>,
    #[xml(attr, loose, read_if = not_zero)]
    pub queue: Option<u64>,
    #[xml(flatten)]
    pub virtio: VirtioOptions,
}

/// virtiofsd and its settings.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsBinary {
    #[xml(attr)]
    pub path: Option<String>,
    #[xml(attr, with = OnOff)]
    pub xattr: Option<bool>,
    #[xml(attr = "cache@mode")]
    pub cache: Option<FsCacheMode>,
    #[xml(attr = "sandbox@mode")]
    pub sandbox: Option<SandboxMode>,
    #[xml(attr = "thread_pool@size", loose, read_if = some_threads)]
    pub thread_pool: Option<i32>,
    #[xml(attr = "openfiles@max", loose, read_if = not_zero)]
    pub openfiles: Option<u64>,
    #[xml(child)]
    pub lock: FsLock,
}

/// Which locks virtiofsd passes on.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FsLock {
    #[xml(attr, with = OnOff)]
    pub posix: Option<bool>,
    #[xml(attr, with = OnOff)]
    pub flock: Option<bool>,
}

/// Ranges of user and group numbers.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = IdMap::check)]
pub struct IdMap {
    #[xml(child = "uid")]
    pub uids: Vec<IdRange>,
    #[xml(child = "gid")]
    pub gids: Vec<IdRange>,
}

fn some_threads(size: &i32, _: Mode) -> bool {
    *size >= 0
}

impl IdMap {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        let number = |c: &El<'_>, name| {
            c.attr(name).and_then(|t| virt_xml::parse_int(t, 10)).is_some_and(|n| u32::try_from(n).is_ok())
        };
        let whole = |c: El<'_>| ["start", "target", "count"].iter().all(|name| number(&c, name));
        if !e.children().filter(|c| matches!(c.name(), "uid" | "gid")).all(whole) {
            return Err(e.error(Code::XmlError, Domain::Domain, "invalid idmap start/target/count settings"));
        }
        Ok(())
    }
}

/// `count` numbers from `start` in the guest, from `target` on the host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct IdRange {
    #[xml(attr, with = Lenient)]
    pub start: u32,
    #[xml(attr, with = Lenient)]
    pub target: u32,
    #[xml(attr, with = Lenient)]
    pub count: u32,
}
