//! Snapshot and checkpoint documents.
#![allow(missing_docs)] // The fields are the document's own names; comments stand where there is more to say.

use virt_xml::rt_error::{Code, Domain as From, Result};
use virt_xml::{El, Mode, Shape, Writer, Xml, names};

use crate::domain::Domain;
use crate::domain::cpu::Cpu;
use crate::domain::disk::SnapshotLocation;
use crate::domain::source::{DiskSource, DriverFormat, ImageFormat, MetadataCache};
use crate::{Uuid, UuidText};

names! {
    /// The guest's state when the snapshot was taken.
    pub enum SnapshotState {
        NoState = "nostate", Running = "running", Blocked = "blocked", Paused = "paused", Shutdown = "shutdown",
        Shutoff = "shutoff", Crashed = "crashed", PmSuspended = "pmsuspended", DiskSnapshot = "disk-snapshot"
    }
    /// How a checkpoint tracks a disk.
    pub enum CheckpointKind { Default = "default", No = "no", Bitmap = "bitmap" }
}

/// `<domainsnapshot>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Snapshot::check)]
pub struct Snapshot {
    /// Missing until one is made from the time.
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf)]
    pub description: Option<String>,
    #[xml(leaf = "parent/name")]
    pub parent: Option<String>,
    #[xml(leaf, say(XmlError, "Invalid state '{}' in domain snapshot XML", DomainSnapshot))]
    pub state: Option<SnapshotState>,
    /// Seconds since 1970.
    #[xml(leaf = "creationTime")]
    pub creation_time: Option<i64>,
    #[xml(child)]
    pub memory: Option<SnapshotMemory>,
    #[xml(child)]
    pub disks: SnapshotDisks,
    #[xml(child)]
    pub domain: Option<SnapshotDomain>,
    /// The configuration beside the running guest's document.
    #[xml(child = "inactiveDomain")]
    pub inactive: Option<Box<Domain>>,
    #[xml(child)]
    pub cookie: Option<Cookie>,
    /// The images a revert made (the driver's own file only).
    #[xml(child = "revertDisks", status)]
    pub revert_disks: Option<SnapshotDisks>,
    /// 1: the guest's present state follows this snapshot (the driver's own file only).
    #[xml(leaf, status)]
    pub active: Option<u32>,
}

/// Whether the guest's memory is kept, and where.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SnapshotMemory {
    #[xml(attr)]
    pub snapshot: Option<SnapshotLocation>,
    #[xml(attr)]
    pub file: Option<String>,
}

/// The disks of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct SnapshotDisks {
    #[xml(child = "disk")]
    pub disks: Vec<SnapshotDisk>,
}

/// How one disk is kept.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = SnapshotDisk::check)]
pub struct SnapshotDisk {
    #[xml(attr, need(XmlError, "missing name from disk snapshot element", DomainSnapshot))]
    pub name: String,
    #[xml(attr)]
    pub snapshot: Option<SnapshotLocation>,
    /// Its removal has begun (the driver's own file only).
    #[xml(flag = "snapshotDeleteInProgress", status)]
    pub delete_in_progress: bool,
    #[xml(attr = "driver@type", with = DriverFormat)]
    pub format: Option<ImageFormat>,
    #[xml(child = "driver/metadata_cache")]
    pub metadata_cache: MetadataCache,
    /// The new image of an external snapshot. A missing type with a source means a file.
    #[xml(flatten, when = "type")]
    pub source: Option<DiskSource>,
}

impl SnapshotDisk {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.source.is_none() && e.child("source").is_some() {
            self.source = Some(DiskSource::read(e)?);
        }
        let path =
            self.source.as_ref().filter(|s| matches!(s, DiskSource::File(_))).and_then(DiskSource::path);
        if let Some(path) = path.filter(|p| !p.starts_with('/')) {
            let text = format!("disk snapshot image path '{path}' must be absolute");
            return Err(e.error(Code::XmlError, From::DomainSnapshot, text));
        }
        if matches!(self.snapshot, Some(SnapshotLocation::No | SnapshotLocation::Internal)) {
            self.source = None;
        }
        Ok(())
    }
}

/// The guest's document, or just its UUID.
#[derive(Debug, Clone, PartialEq)]
pub enum SnapshotDomain {
    /// The whole document.
    Full(Box<Domain>),
    /// Only the UUID is known.
    Uuid(Option<Uuid>),
}

impl Xml for SnapshotDomain {
    fn read(e: El<'_>) -> Result<Self> {
        if e.attr("type").is_some() {
            return Domain::read(e).map(|d| Self::Full(Box::new(d)));
        }
        virt_xml::rt::leaf::<UuidText, Uuid>(Some(e), "uuid", None).map(Self::Uuid)
    }
    fn write_attrs(&self, w: &mut Writer) {
        if let Self::Full(d) = self {
            d.write_attrs(w);
        }
    }
    fn write_children(&self, w: &mut Writer) {
        match self {
            Self::Full(d) => d.write_children(w),
            Self::Uuid(uuid) => virt_xml::rt::put_leaf::<UuidText, Uuid>(w, "uuid", uuid.as_ref()),
        }
    }
    fn shape(shape: &mut Shape) {
        Domain::shape(shape);
    }
}

/// What the driver needs to bring the guest back.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Cookie {
    #[xml(child)]
    pub cpu: Option<Cpu>,
    #[xml(flag = "slirpHelper")]
    pub slirp_helper: bool,
}

impl Snapshot {
    /// Reads a document.
    ///
    /// Errors: 27 for names with a slash and disks without a name or with images that cannot be made.
    pub fn parse(text: &str, mode: Mode) -> Result<Self> {
        virt_xml::parse(text, "domainsnapshot", mode, From::DomainSnapshot)
    }

    /// Writes the document.
    pub fn format(&self, mode: Mode) -> String {
        virt_xml::format(self, "domainsnapshot", mode)
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        plain_name(self.name.as_deref(), e)
    }
}

/// Names become file names.
fn plain_name(name: Option<&str>, e: El<'_>) -> Result<()> {
    match name {
        Some(name) if name.contains('/') => {
            let text = format!("name {name} cannot contain '/'");
            Err(e.error(Code::XmlDetail, From::DomainSnapshot, text))
        }
        Some(name) if name.starts_with('.') => {
            let text = format!("name {name} cannot start with '.'");
            Err(e.error(Code::XmlDetail, From::DomainSnapshot, text))
        }
        _ => Ok(()),
    }
}

/// `<domaincheckpoint>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Checkpoint::check)]
pub struct Checkpoint {
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf)]
    pub description: Option<String>,
    #[xml(leaf = "parent/name")]
    pub parent: Option<String>,
    /// Seconds since 1970.
    #[xml(leaf = "creationTime")]
    pub creation_time: Option<i64>,
    #[xml(child)]
    pub disks: CheckpointDisks,
    #[xml(child)]
    pub domain: Option<SnapshotDomain>,
}

/// The disks of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct CheckpointDisks {
    #[xml(child = "disk")]
    pub disks: Vec<CheckpointDisk>,
}

/// How one disk is tracked.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = CheckpointDisk::check)]
pub struct CheckpointDisk {
    #[xml(attr, need(XmlError, "missing name from disk checkpoint element", DomainCheckpoint))]
    pub name: String,
    #[xml(attr)]
    pub checkpoint: Option<CheckpointKind>,
    #[xml(attr)]
    pub bitmap: Option<String>,
    /// Bytes changed since, when asked for.
    #[xml(attr, live_read)]
    pub size: Option<u64>,
}

impl CheckpointDisk {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        match (&self.bitmap, self.checkpoint) {
            (None, _) => Ok(()),
            (Some(_), Some(CheckpointKind::Bitmap)) => Ok(()),
            (Some(_), None | Some(CheckpointKind::Default)) => {
                self.checkpoint = Some(CheckpointKind::Bitmap);
                Ok(())
            }
            (Some(_), Some(CheckpointKind::No)) => {
                let text = format!(
                    "disk checkpoint bitmap '{}' requires type='bitmap'",
                    self.bitmap.as_deref().unwrap_or_default()
                );
                Err(e.error(Code::XmlError, From::DomainCheckpoint, text))
            }
        }
    }
}

impl Checkpoint {
    /// Reads a document.
    ///
    /// Errors: as for snapshots.
    pub fn parse(text: &str, mode: Mode) -> Result<Self> {
        virt_xml::parse(text, "domaincheckpoint", mode, From::DomainCheckpoint)
    }

    /// Writes the document.
    pub fn format(&self, mode: Mode) -> String {
        virt_xml::format(self, "domaincheckpoint", mode)
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        plain_name(self.name.as_deref(), e)
    }
}
