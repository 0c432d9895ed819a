//! The kinds of pools and what each of them has: source parts, formats, a target.

use virt_xml::names;

use super::sanitize;
use crate::domain::source::ImageFormat;

names! {
    /// A kind of pool. The order is the reference's numbering.
    pub enum PoolType {
        Dir = "dir", Fs = "fs", Netfs = "netfs", Logical = "logical", Disk = "disk", Iscsi = "iscsi",
        IscsiDirect = "iscsi-direct", Scsi = "scsi", Mpath = "mpath", Rbd = "rbd", Sheepdog = "sheepdog",
        Gluster = "gluster", Zfs = "zfs", Vstorage = "vstorage"
    }
}

/// Which parts a pool's `<source>` has.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceParts {
    pub host: bool,
    pub device: bool,
    pub dir: bool,
    pub adapter: bool,
    pub name: bool,
    pub initiator: bool,
    /// Whether the initiator must be named.
    pub needs_initiator: bool,
}

const FS_FORMATS: &[&str] = &[
    "auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs", "ocfs2",
    "vmfs",
];
const NETFS_FORMATS: &[&str] = &["auto", "nfs", "glusterfs", "cifs"];
const LOGICAL_FORMATS: &[&str] = &["unknown", "lvm2"];
const DISK_FORMATS: &[&str] = &["unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"];
const PARTITION_TYPES: &[&str] =
    &["none", "linux", "fat16", "fat32", "linux-swap", "linux-lvm", "linux-raid", "extended"];
const IMAGE_FORMATS: [&str; ImageFormat::ALL.len()] = {
    let mut names = [""; ImageFormat::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = ImageFormat::ALL[i].0;
        i += 1;
    }
    names
};

/// A closed list of formats with the one that stands for a missing one.
#[derive(Debug, Clone, Copy)]
pub struct Formats {
    pub default: &'static str,
    pub names: &'static [&'static str],
}

impl PoolType {
    /// Its number in the reference's error texts.
    pub fn number(self) -> usize {
        self as usize
    }

    /// What its source consists of.
    pub fn source(self) -> SourceParts {
        let none = SourceParts::default();
        match self {
            Self::Dir | Self::Mpath => none,
            Self::Fs | Self::Disk => SourceParts { device: true, ..none },
            Self::Netfs => SourceParts { host: true, dir: true, ..none },
            Self::Logical | Self::Zfs => SourceParts { name: true, device: true, ..none },
            Self::Iscsi => SourceParts { host: true, device: true, initiator: true, ..none },
            Self::IscsiDirect => {
                SourceParts { host: true, device: true, initiator: true, needs_initiator: true, ..none }
            }
            Self::Scsi => SourceParts { adapter: true, ..none },
            Self::Rbd | Self::Sheepdog => SourceParts { host: true, name: true, ..none },
            Self::Gluster => SourceParts { host: true, dir: true, name: true, ..none },
            Self::Vstorage => SourceParts { name: true, ..none },
        }
    }

    /// Whether a device is needed to define one: volume groups and zpools may be there already, and that an iSCSI target
    /// is missing is only told by the start.
    pub fn needs_device(self) -> bool {
        matches!(self, Self::Fs | Self::Disk)
    }

    /// Formats of the source.
    pub fn source_formats(self) -> Option<Formats> {
        let (default, names) = match self {
            Self::Fs => ("auto", FS_FORMATS),
            Self::Netfs => ("auto", NETFS_FORMATS),
            Self::Logical => ("lvm2", LOGICAL_FORMATS),
            Self::Disk => ("unknown", DISK_FORMATS),
            _ => return None,
        };
        Some(Formats { default, names })
    }

    /// Formats of volumes.
    pub fn volume_formats(self) -> Option<Formats> {
        match self {
            Self::Dir | Self::Fs | Self::Netfs | Self::Gluster | Self::Vstorage => {
                Some(Formats { default: "raw", names: &IMAGE_FORMATS })
            }
            Self::Disk => Some(Formats { default: "none", names: PARTITION_TYPES }),
            // Its volumes are raw and nothing else.
            Self::Rbd => Some(Formats { default: "raw", names: &["raw"] }),
            _ => None,
        }
    }

    /// Whether volumes are found under a path of this host.
    pub fn has_target(self) -> bool {
        !matches!(self, Self::IscsiDirect | Self::Rbd | Self::Sheepdog | Self::Gluster)
    }

    /// The target's path when it follows from the source's name alone.
    pub fn fixed_target(self, source_name: &str) -> Option<String> {
        match self {
            Self::Logical => Some(sanitize(&format!("/dev/{source_name}"))),
            Self::Zfs => Some(sanitize(&format!("/dev/zvol/{source_name}"))),
            _ => None,
        }
    }

    /// Whether volumes are files in a folder.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::Dir | Self::Fs | Self::Netfs | Self::Vstorage)
    }
}
