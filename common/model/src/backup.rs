//! Backup documents.
#![allow(missing_docs)] // The fields are the document's own names; comments stand where there is more to say.

use virt_xml::rt_error::{Domain as From, Result};
use virt_xml::{Mode, Xml, YesNo, names};

use crate::domain::seclabel::DeviceSeclabel;
use crate::domain::source::{DriverFormat, Encryption, ImageFormat, SecretObjects};

names! {
    /// Whether we write the backup or a client fetches it.
    pub enum BackupMode { Push = "push", Pull = "pull" }
    /// How a client reaches the server of a pull backup.
    pub enum BackupTransport { Tcp = "tcp", Unix = "unix", Fd = "fd" }
    /// How far a disk's backup is.
    pub enum BackupState { None = "", Running = "running", Complete = "complete", Failed = "failed", Cancelling = "cancelling", Cancelled = "cancelled" }
    /// All of a disk, or what changed.
    pub enum DiskBackupMode { None = "", Full = "full", Incremental = "incremental" }
}

/// `<domainbackup>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Backup {
    #[xml(attr)]
    pub mode: BackupMode,
    /// The checkpoint changes are counted from.
    #[xml(leaf)]
    pub incremental: Option<String>,
    #[xml(child)]
    pub server: Option<BackupServer>,
    #[xml(child)]
    pub disks: BackupDisks,
    #[xml(child = "privateData", status)]
    pub private: Option<BackupPrivate>,
}

/// Where a client fetches the backup.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BackupServer {
    #[xml(attr)]
    pub transport: Option<BackupTransport>,
    #[xml(attr, with = YesNo)]
    pub tls: Option<bool>,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr)]
    pub port: Option<u32>,
    #[xml(attr)]
    pub socket: Option<String>,
    #[xml(attr)]
    pub fdgroup: Option<String>,
}

/// The disks of a backup.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BackupDisks {
    #[xml(child = "disk")]
    pub disks: Vec<BackupDisk>,
}

/// One disk.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BackupDisk {
    #[xml(attr, required)]
    pub name: String,
    #[xml(attr, with = YesNo)]
    pub backup: Option<bool>,
    #[xml(attr, status)]
    pub state: Option<BackupState>,
    /// `file` or `block`.
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr)]
    pub backupmode: Option<DiskBackupMode>,
    #[xml(attr)]
    pub incremental: Option<String>,
    #[xml(attr)]
    pub exportname: Option<String>,
    #[xml(attr)]
    pub exportbitmap: Option<String>,
    /// Number of the image while the job runs.
    #[xml(attr, live_read)]
    pub index: Option<u32>,
    #[xml(attr = "driver@type", with = DriverFormat)]
    pub format: Option<ImageFormat>,
    /// What a push backup writes.
    #[xml(child)]
    pub target: Option<BackupImage>,
    /// Where a pull backup keeps what the guest overwrites.
    #[xml(child)]
    pub scratch: Option<BackupImage>,
}

/// The image a backup writes.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BackupImage {
    #[xml(attr)]
    pub file: Option<String>,
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(child = "seclabel")]
    pub seclabels: Vec<DeviceSeclabel>,
    #[xml(child)]
    pub encryption: Option<Encryption>,
}

/// What the driver needs again after a restart.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BackupPrivate {
    #[xml(child)]
    pub objects: SecretObjects,
}

impl Backup {
    /// Reads a document.
    pub fn parse(text: &str, mode: Mode) -> Result<Self> {
        virt_xml::parse(text, "domainbackup", mode, From::Domain)
    }

    /// Writes the document.
    pub fn format(&self, mode: Mode) -> String {
        virt_xml::format(self, "domainbackup", mode)
    }
}
