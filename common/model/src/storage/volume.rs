//! The volume document.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, Shape, Writer, Xml, names, rt};

use super::source::Extent;
use super::target::Permissions;
use super::{PoolType, Told, unsupported, xml_error};
use crate::domain::source::Encryption;
use crate::size::times_unit;

names! {
    /// What a volume is.
    pub enum VolumeType { File = "file", Block = "block", Dir = "dir", Network = "network", NetDir = "netdir", Ploop = "ploop" }
}

/// `<volume>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Volume::check)]
pub struct Volume {
    #[xml(attr = "type", say(ConfigUnsupported, "unknown volume type '{}'", Storage))]
    pub kind: Option<VolumeType>,
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf)]
    pub key: Option<String>,
    /// Where on which devices it lies. Told, never asked for.
    #[xml(child, live, keep_if = has_devices)]
    pub source: Option<VolumeSource>,
    #[xml(child)]
    pub capacity: Option<Bytes>,
    #[xml(child)]
    pub allocation: Option<Bytes>,
    /// What it takes of its host, told only.
    #[xml(child)]
    pub physical: Option<Told>,
    #[xml(child)]
    pub target: VolumeTarget,
    #[xml(child = "backingStore")]
    pub backing: Option<BackingStore>,
}

fn has_devices(source: &VolumeSource, _: Mode) -> bool {
    source.devices.iter().any(|d| !d.extents.is_empty())
}

/// The devices a volume lies on.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VolumeSource {
    #[xml(child = "device")]
    pub devices: Vec<VolumeDevice>,
}

/// A device, and the volume's pieces on it.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct VolumeDevice {
    #[xml(attr)]
    pub path: String,
    #[xml(child = "extent")]
    pub extents: Vec<Extent>,
}

/// A size with a unit; written in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Xml for Bytes {
    fn read(e: El<'_>) -> Result<Self> {
        let text = e.text();
        if text.is_empty() {
            // It says nothing; where a size must be told, that it is missing was told before.
            return Ok(Self(0));
        }
        let Some(n) = virt_xml::parse_int(&text, 10).and_then(|n| u64::try_from(n).ok()) else {
            // The reference says so of the allocation, too.
            return Err(xml_error(e, "malformed capacity element"));
        };
        times_unit(e, n, 1).map(Self)
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("unit", "bytes");
    }
    fn write_children(&self, w: &mut Writer) {
        w.text(&self.0.to_string());
    }
    fn shape(shape: &mut Shape) {
        shape.attr("", "unit");
    }
}

/// `<clusterSize>`: written in bytes with the unit's short name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterSize(pub u64);

impl Xml for ClusterSize {
    fn read(e: El<'_>) -> Result<Self> {
        let text = e.text();
        let Some(n) = virt_xml::parse_int(&text, 10).and_then(|n| u64::try_from(n).ok()) else {
            let text = format!("Invalid value '{text}' for element or attribute './target/clusterSize'");
            return Err(e.error(Code::XmlError, Domain::Xml, text));
        };
        times_unit(e, n, 1).map(Self)
    }
    fn write_attrs(&self, w: &mut Writer) {
        w.attr("unit", "B");
    }
    fn write_children(&self, w: &mut Writer) {
        w.text(&self.0.to_string());
    }
    fn shape(shape: &mut Shape) {
        shape.attr("", "unit");
    }
}

/// `<target>` of a volume.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = VolumeTarget::check)]
pub struct VolumeTarget {
    #[xml(leaf)]
    pub path: Option<String>,
    /// One of the pool's formats; see [`PoolType::volume_formats`].
    #[xml(attr = "format@type")]
    pub format: Option<String>,
    #[xml(child)]
    pub permissions: Permissions,
    #[xml(child)]
    pub timestamps: Timestamps,
    #[xml(child)]
    pub encryption: Option<Encryption>,
    /// The version of qcow2.
    #[xml(leaf)]
    pub compat: Option<String>,
    /// Asked for when the volume is made; the reference does not tell it.
    #[xml(flag, write_when = VolumeTarget::never)]
    pub nocow: bool,
    #[xml(child = "clusterSize")]
    pub cluster_size: Option<ClusterSize>,
    #[xml(child)]
    pub features: Option<Features>,
}

impl VolumeTarget {
    fn never(&self) -> bool {
        false
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        self.cluster_size.take_if(|c| c.0 == 0);
        if self.features.is_some() || self.cluster_size.is_some() {
            self.compat.get_or_insert_with(|| "1.1".to_string());
        }
        check_version(self.compat.as_deref(), e)
    }
}

fn check_version(compat: Option<&str>, e: El<'_>) -> Result<()> {
    match compat.is_some_and(|compat| !is_version(compat)) {
        true => Err(xml_error(e, "forbidden characters in 'compat' attribute")),
        false => Ok(()),
    }
}

/// Two numbers with a dot: it becomes part of a list of options.
fn is_version(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor))
}

/// When a volume was used; seconds since 1970 with nanoseconds. Told, never asked for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Timestamps {
    #[xml(leaf, live)]
    pub atime: Option<String>,
    #[xml(leaf, live)]
    pub mtime: Option<String>,
    #[xml(leaf, live)]
    pub ctime: Option<String>,
    #[xml(leaf, live)]
    pub btime: Option<String>,
}

/// Switches of qcow2.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = Features::before)]
pub struct Features {
    #[xml(flag)]
    pub lazy_refcounts: bool,
    #[xml(flag)]
    pub extended_l2: bool,
    /// A file of its own for the data.
    #[xml(flag)]
    pub data_file: bool,
}

impl Features {
    fn before(e: El<'_>) -> Result<()> {
        let known = ["lazy_refcounts", "extended_l2", "data_file"];
        match e.children().find(|c| !known.contains(&c.name())) {
            Some(other) => Err(unsupported(e, format!("unsupported feature {}", other.name()))),
            None => Ok(()),
        }
    }
}

/// What a copy-on-write volume is based on.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BackingStore {
    #[xml(leaf)]
    pub path: Option<String>,
    #[xml(attr = "format@type")]
    pub format: Option<String>,
    #[xml(child)]
    pub permissions: Permissions,
    #[xml(child)]
    pub timestamps: Timestamps,
}

impl Volume {
    /// Reads a document for a pool of this kind. `may_lack_capacity`: another volume tells it.
    ///
    /// # Errors
    /// Codes 27, 67, 8 and 82 with libvirt's texts.
    pub fn parse(text: &str, pool: PoolType, may_lack_capacity: bool) -> Result<Self> {
        let doc = virt_xml::Document::parse(text, Mode::CONFIG, Domain::Storage)?;
        let e = doc.root();
        if e.name() != "volume" {
            let text = format!("expecting root element of 'volume', not '{}'", e.name());
            return Err(e.error(Code::XmlError, Domain::Xml, text));
        }
        let filled = |e: Option<El<'_>>| e.is_some_and(|e| !e.text().is_empty());
        let based = filled(e.child("backingStore").and_then(|b| b.child("path")));
        let named = filled(e.child("name"));
        if named && !filled(e.child("capacity")) && !may_lack_capacity && !based {
            return Err(xml_error(e, "missing capacity element"));
        }
        let told = Self::read(e).and_then(|mut volume| volume.settle(pool, e).map(|()| volume));
        told.map_err(|error| Self::first(pool, e).err().unwrap_or(error))
    }

    /// The mistake that the reference would find first, of a document that has one.
    fn first(pool: PoolType, e: El<'_>) -> Result<()> {
        if e.child("name").is_none_or(|n| n.text().is_empty()) {
            return Err(xml_error(e, "missing volume name element"));
        }
        let format = |part: Option<El<'_>>| {
            let name = part.and_then(|p| p.child("format")).and_then(|f| f.attr("type"));
            pool_format(pool, name.map(str::to_string), e)
        };
        if let Some(kind) = e.attr("type").filter(|kind| VolumeType::from_name(kind).is_none()) {
            return Err(unsupported(e, format!("unknown volume type '{kind}'")));
        }
        if let Some(backing) = e.child("backingStore")
            && backing.child("path").is_some_and(|p| !p.text().is_empty())
        {
            format(Some(backing))?;
            rt::child::<Permissions>(Some(backing), "permissions")?;
        }
        for size in ["capacity", "allocation"] {
            if e.child(size).is_some_and(|s| !s.text().is_empty()) {
                rt::child::<Bytes>(Some(e), size)?;
            }
        }
        let Some(target) = e.child("target") else { return Ok(()) };
        format(Some(target))?;
        rt::child::<Permissions>(Some(target), "permissions")?;
        rt::child::<Encryption>(Some(target), "encryption")?;
        let compat = target.child("compat").map(|c| c.text().into_owned()).filter(|c| !c.is_empty());
        check_version(compat.as_deref(), target)?;
        rt::child::<ClusterSize>(Some(target), "clusterSize")?;
        rt::child::<Features>(Some(target), "features").map(drop)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self) -> String {
        virt_xml::format(self, "volume", Mode::LIVE)
    }

    /// The name, or nothing before it was checked.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Where its base is.
    pub fn backing_path(&self) -> Option<&str> {
        self.backing.as_ref()?.path.as_deref().filter(|p| !p.is_empty())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        if self.name().is_empty() {
            return Err(xml_error(e, "missing volume name element"));
        }
        self.physical = None;
        // Without a path there is no base.
        self.backing.take_if(|b| b.path.as_deref().is_none_or(str::is_empty));
        Ok(())
    }

    /// Formats depend on the pool's kind.
    fn settle(&mut self, pool: PoolType, e: El<'_>) -> Result<()> {
        let check = |given| pool_format(pool, given, e);
        self.target.format = check(self.target.format.take())?;
        // A base without a format is probed by nobody: it stays unsaid.
        if let Some(backing) =
            self.backing.as_mut().filter(|b| b.format.as_deref().is_some_and(|f| !f.is_empty()))
        {
            backing.format = check(backing.format.take())?;
        } else if let Some(backing) = self.backing.as_mut() {
            backing.format = None;
        }
        Ok(())
    }
}

/// A volume's format as a pool of this kind has it.
fn pool_format(pool: PoolType, given: Option<String>, e: El<'_>) -> Result<Option<String>> {
    // No image is of no format; of a partition it means something.
    let refused = |name: &str| name == "none" && pool != PoolType::Disk;
    match (pool.volume_formats(), given.filter(|name| !name.is_empty())) {
        (None, _) => Ok(None),
        (Some(_), Some(name)) if refused(&name) => {
            Err(unsupported(e, format!("unknown volume format type {name}")))
        }
        (Some(formats), None) => Ok(Some(formats.default.to_string())),
        (Some(formats), Some(name)) if formats.names.contains(&name.as_str()) => Ok(Some(name)),
        (Some(_), Some(name)) => Err(unsupported(e, format!("unknown volume format type {name}"))),
    }
}
