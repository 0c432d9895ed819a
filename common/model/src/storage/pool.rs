//! The pool document.

use virt_xml::rt_error::{Code, Domain, Error, Result};
use virt_xml::{El, Mode, Xml, YesNo, names};

use super::options::Options;
use super::source::PoolSource;
use super::target::PoolTarget;
use super::{PoolType, Told, sanitize, unsupported, xml_error};
use crate::{Uuid, UuidText};

/// `<pool>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Pool::check, before = Pool::before)]
pub struct Pool {
    #[xml(attr = "type", required)]
    pub kind: PoolType,
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(leaf, with = UuidText, say(XmlError, "malformed uuid element", Storage))]
    pub uuid: Option<Uuid>,
    #[xml(child)]
    pub capacity: Told,
    #[xml(child)]
    pub allocation: Told,
    #[xml(child)]
    pub available: Told,
    #[xml(attr = "features/cow@state", with = YesNo)]
    pub cow: Option<bool>,
    #[xml(child)]
    pub source: Written<PoolSource>,
    #[xml(child, write_when = Pool::has_target)]
    pub target: PoolTarget,
    #[xml(
        attr = "refresh/volume@allocation",
        say(ConfigUnsupported, "unknown storage pool volume refresh allocation type {}", Storage)
    )]
    pub refresh_allocation: Option<RefreshAllocation>,
    #[xml(flatten)]
    pub options: Options,
}

names! {
    /// How a refresh finds out how much a volume takes.
    pub enum RefreshAllocation { Default = "default", Capacity = "capacity" }
}

/// A part that is written even when it is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written<T>(pub T);

impl<T: Xml> Xml for Written<T> {
    fn read(e: El<'_>) -> Result<Self> {
        T::read(e).map(Self)
    }
    fn write_attrs(&self, w: &mut virt_xml::Writer) {
        w.open_lines();
    }
    fn write_children(&self, w: &mut virt_xml::Writer) {
        self.0.write_children(w);
    }
    fn shape(shape: &mut virt_xml::Shape) {
        T::shape(shape);
    }
}

impl<T> std::ops::Deref for Written<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for Written<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Pool {
    /// Reads a document.
    ///
    /// # Errors
    /// Codes 27 and 67 with libvirt's texts, with element path and line as context.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "pool", Mode::CONFIG, Domain::Storage)
    }

    /// Writes the document, ending in a newline. Free extents are only part of the live one.
    pub fn format(&self, mode: Mode) -> String {
        virt_xml::format(self, "pool", mode)
    }

    /// The name, or nothing before it was checked.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Where volumes appear; empty for pools whose volumes have no path here.
    pub fn path(&self) -> &str {
        self.target.path.as_deref().unwrap_or_default()
    }

    fn has_target(&self) -> bool {
        self.kind.has_target() && (self.target.path.is_some() || !self.target.permissions.is_empty())
    }

    /// What the reference looks at before anything else: the source and the name.
    fn before(e: El<'_>) -> Result<()> {
        // Without a kind there is no pool, which is told when that is read.
        let Some(kind) = e.attr("type").and_then(PoolType::from_name) else { return Ok(()) };
        let mut source = PoolSource::default();
        if let Some(part) = e.child("source") {
            source = PoolSource::read(part)?;
            source.settle(kind, part)?;
        }
        let text = |name: &str| e.child(name).map(|n| n.text().into_owned()).filter(|n| !n.is_empty());
        let own = source.name.filter(|n| !n.is_empty());
        if kind == PoolType::Rbd && own.is_none() && e.child("source").is_some() {
            return Err(xml_error(e, "element 'name' is mandatory for RBD pool"));
        }
        let Some(name) = text("name").or_else(|| own.filter(|_| kind.source().name)) else {
            return Err(xml_error(e, "missing pool source name element"));
        };
        if name.contains('/') {
            return Err(xml_error(e, format!("name {name} cannot contain '/'")));
        }
        let cow = e.child("features").and_then(|f| f.child("cow"));
        if virt_xml::rt::attr::<YesNo, bool>(cow, "state", None)?.is_some()
            && !matches!(kind, PoolType::Dir | PoolType::Fs)
        {
            let text = "cow feature may only be used for 'fs' and 'dir' pools";
            return Err(e.error(Code::NoSupport, Domain::Storage, text));
        }
        Ok(())
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let source = e.child("source").unwrap_or(e);
        self.source.settle(self.kind, source)?;
        let parts = self.kind.source();
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        if !filled(&self.name) && parts.name {
            self.name = self.source.name.clone();
        }
        if parts.host && self.source.hosts.is_empty() {
            return Err(xml_error(source, "missing storage pool source host name"));
        }
        if parts.dir && !filled(&self.source.dir) {
            return Err(xml_error(source, "missing storage pool source path"));
        }
        if parts.name && !filled(&self.source.name) {
            self.source.name = self.name.clone();
        }
        if parts.needs_initiator && self.source.initiator.is_none() {
            return Err(unsupported(source, "missing initiator IQN"));
        }
        if parts.adapter && self.source.adapter.is_none() {
            return Err(xml_error(source, "missing storage pool source adapter"));
        }
        if self.kind.needs_device() && self.source.devices.is_empty() {
            return Err(xml_error(source, "missing storage pool source device name"));
        }
        self.settle_target(e)?;
        self.source.adapter.as_ref().map_or(Ok(()), |adapter| adapter.check_names(source))
    }

    fn settle_target(&mut self, e: El<'_>) -> Result<()> {
        if !self.kind.has_target() {
            self.target = PoolTarget::default();
            return Ok(());
        }
        let name = self.source.name.as_deref().unwrap_or_default();
        self.target.path = match (self.kind.fixed_target(name), self.target.path.take()) {
            (Some(fixed), _) => Some(fixed),
            (None, Some(path)) if !path.is_empty() => Some(sanitize(&path)),
            (None, _) => return Err(xml_error(e, "missing storage pool target path")),
        };
        Ok(())
    }
}

/// `<poolstate>`: an active pool's status file.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct PoolState {
    #[xml(child)]
    pub pool: Option<Pool>,
}

impl PoolState {
    /// Reads a status file.
    ///
    /// # Errors
    /// Code 1 for a file without a pool, and those of [`Pool::parse`].
    pub fn parse(text: &str) -> Result<Pool> {
        let state: Self = virt_xml::parse(text, "poolstate", Mode::STATUS, Domain::Storage)?;
        state
            .pool
            .ok_or_else(|| Error::new(Code::InternalError, Domain::Storage, "status file has no <pool>"))
    }

    /// Writes a status file.
    pub fn format(pool: &Pool) -> String {
        virt_xml::format(&Self { pool: Some(pool.clone()) }, "poolstate", Mode::CONFIG)
    }
}
