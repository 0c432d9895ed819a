//! What a pool is made from.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, Shape, Writer, Xml, YesNo, names};

use super::{PoolType, sanitize, unsupported, xml_error};
use crate::domain::address::PciAddress;
use crate::{Uuid, UuidText};

/// `<source>` of a pool. Always written, even when empty.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(open)]
pub struct PoolSource {
    #[xml(child = "host")]
    pub hosts: Vec<Host>,
    #[xml(child = "device")]
    pub devices: Vec<Device>,
    #[xml(attr = "dir@path")]
    pub dir: Option<String>,
    #[xml(child)]
    pub adapter: Option<Adapter>,
    #[xml(leaf)]
    pub name: Option<String>,
    #[xml(child)]
    pub initiator: Option<Initiator>,
    #[xml(attr = "format@type")]
    pub format: Option<String>,
    #[xml(child)]
    pub auth: Option<PoolAuth>,
    #[xml(attr = "protocol@ver")]
    pub protocol: Option<String>,
    #[xml(attr = "vendor@name")]
    pub vendor: Option<String>,
    #[xml(attr = "product@name")]
    pub product: Option<String>,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Host {
    #[xml(attr, need(XmlError, "missing storage pool host name", Storage))]
    pub name: String,
    #[xml(attr, keep_if = not_zero)]
    pub port: Option<i32>,
}

fn not_zero(port: &i32, _: Mode) -> bool {
    *port != 0
}

/// A device of this host, or a target of a server.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Device {
    #[xml(attr, need(XmlError, "missing storage pool source device path", Storage))]
    pub path: String,
    /// Whether "p" stands between the device's name and a partition's number.
    #[xml(attr = "part_separator", with = YesNo)]
    pub part_separator: Option<bool>,
    /// What is free on it; only told of an active pool.
    #[xml(child = "freeExtent", live)]
    pub free: Vec<Extent>,
}

/// A piece of a device, in bytes; the end is not part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Xml)]
pub struct Extent {
    #[xml(attr, required)]
    pub start: u64,
    #[xml(attr, required)]
    pub end: u64,
}

/// Who logs in to an iSCSI target.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Initiator {
    #[xml(attr = "iqn@name")]
    pub iqn: Option<String>,
}

/// How a server lets us in.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(before = PoolAuth::before, check = PoolAuth::check)]
pub struct PoolAuth {
    /// `chap` or `ceph`.
    #[xml(attr = "type", loose)]
    pub kind: AuthKind,
    #[xml(attr)]
    pub username: String,
    #[xml(child, need(XmlError, "Missing <secret> element in auth", Storage))]
    pub secret: PoolSecret,
}

names! {
    /// How a pool's user is checked.
    pub enum AuthKind { None = "none", Chap = "chap", Ceph = "ceph" }
}

impl PoolAuth {
    fn before(e: El<'_>) -> Result<()> {
        if e.attr("username").is_none_or(str::is_empty) {
            return Err(xml_error(e, "missing username for auth"));
        }
        match e.attr("type").filter(|kind| !kind.is_empty()) {
            Some(kind) if AuthKind::from_name(kind).is_none() => {
                Err(unsupported(e, format!("unknown auth type '{kind}'")))
            }
            _ => Ok(()),
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        match self.kind {
            AuthKind::None => Err(unsupported(e, "storage pool missing auth type")),
            AuthKind::Chap | AuthKind::Ceph => Ok(()),
        }
    }
}

/// A secret, by UUID or by what it is used for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = PoolSecret::check)]
pub struct PoolSecret {
    #[xml(attr = "type")]
    pub kind: Option<String>,
    #[xml(attr, with = UuidText, say(XmlError, "invalid secret uuid '{}'", None))]
    pub uuid: Option<Uuid>,
    #[xml(attr)]
    pub usage: Option<String>,
}

impl PoolSecret {
    fn check(&mut self, e: El<'_>) -> Result<()> {
        match (&self.uuid, &self.usage) {
            (None, None) => {
                Err(e.error(Code::XmlError, Domain::None, "missing secret uuid or usage attribute"))
            }
            (Some(_), Some(_)) => {
                Err(e.error(Code::XmlError, Domain::None, "either secret uuid or usage expected"))
            }
            _ => Ok(()),
        }
    }
}

/// A host adapter whose devices are the volumes.
#[derive(Debug, Clone, PartialEq)]
pub enum Adapter {
    /// A SCSI host by its name.
    ScsiHost { name: String },
    /// A SCSI host by the PCI address of its card: its name may change with a boot.
    Parent { unique_id: u32, address: PciAddress },
    /// A Fibre Channel host by its names, made on the parent when it is not there.
    FcHost(FcHost),
}

/// A Fibre Channel host.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FcHost {
    #[xml(attr)]
    pub parent: Option<String>,
    #[xml(attr)]
    pub parent_wwnn: Option<String>,
    #[xml(attr)]
    pub parent_wwpn: Option<String>,
    #[xml(attr)]
    pub parent_fabric_wwn: Option<String>,
    /// Whether it goes away with the pool.
    #[xml(attr, with = YesNo)]
    pub managed: Option<bool>,
    #[xml(attr)]
    pub wwnn: String,
    #[xml(attr)]
    pub wwpn: String,
}

impl Xml for Adapter {
    fn read(e: El<'_>) -> Result<Self> {
        match e.attr("type") {
            Some("fc_host") => {
                let host = FcHost::read(e)?;
                if host.wwnn.is_empty() || host.wwpn.is_empty() {
                    let text = "'wwnn' and 'wwpn' must be specified for adapter type 'fchost'";
                    return Err(xml_error(e, text));
                }
                Ok(Self::FcHost(host))
            }
            None if e.child("parentaddr").is_some() => {
                Err(xml_error(e, "Use of 'parentaddr' element requires use of the adapter 'type'"))
            }
            None => match e.attr("name") {
                Some(name) => Ok(Self::ScsiHost { name: name.to_string() }),
                None => Err(xml_error(e, "missing storage pool source adapter")),
            },
            Some("scsi_host") => match (e.attr("name"), e.child("parentaddr")) {
                (Some(name), None) => Ok(Self::ScsiHost { name: name.to_string() }),
                (name, Some(parent)) => {
                    let Some(address) = parent.child("address") else {
                        return Err(xml_error(parent, "Missing scsi_host PCI address element"));
                    };
                    let address = PciAddress { multifunction: None, ..PciAddress::read(address)? };
                    let unique_id = parent.attr("unique_id").and_then(|n| virt_xml::parse_int(n, 10));
                    let missing = "Missing or invalid scsi adapter 'unique_id' value";
                    let unique_id = unique_id.and_then(|n| u32::try_from(n).ok());
                    let unique_id = unique_id.ok_or_else(|| xml_error(parent, missing))?;
                    match name {
                        None => Ok(Self::Parent { unique_id, address }),
                        Some(_) => Err(xml_error(
                            e,
                            "Both 'name' and 'parent' cannot be specified for the 'scsi_host' adapter",
                        )),
                    }
                }
                (None, None) => Err(xml_error(
                    e,
                    "Either 'name' or 'parent' must be specified for the 'scsi_host' adapter",
                )),
            },
            Some(other) => Err(e.bad_attr("type", other, virt_xml::Bad::Unknown)),
        }
    }
    fn write_attrs(&self, w: &mut Writer) {
        match self {
            Self::ScsiHost { name } => {
                w.attr("type", "scsi_host");
                w.attr("name", name);
            }
            Self::Parent { .. } => w.attr("type", "scsi_host"),
            Self::FcHost(host) => {
                w.attr("type", "fc_host");
                host.write_attrs(w);
            }
        }
    }
    fn write_children(&self, w: &mut Writer) {
        if let Self::Parent { unique_id, address } = self {
            w.start("parentaddr");
            w.attr("unique_id", &unique_id.to_string());
            w.element("address", address);
            w.end();
        }
    }
    fn shape(shape: &mut Shape) {
        for name in ["type", "name"] {
            shape.attr("", name);
        }
        FcHost::shape(shape);
    }
}

impl Adapter {
    /// Names of Fibre Channel's parties: 16 digits. The reference looks at them last of all.
    ///
    /// # Errors
    /// Code 1.
    pub(super) fn check_names(&self, e: El<'_>) -> Result<()> {
        let Self::FcHost(host) = self else { return Ok(()) };
        let (node, port) = (host.parent_wwnn.as_deref(), host.parent_wwpn.as_deref());
        let alone = |is: &str, value: &str, other: &str| {
            let text = format!("when providing {is}='{value}', the {other} must also be provided");
            Err(xml_error(e, text))
        };
        match (node, port) {
            (Some(node), None) => return alone("parent_wwnn", node, "parent_wwpn"),
            (None, Some(port)) => return alone("parent_wwpn", port, "parent_wwnn"),
            _ => {}
        }
        let others = [&host.parent_wwnn, &host.parent_wwpn, &host.parent_fabric_wwn];
        for wwn in [&host.wwnn, &host.wwpn].into_iter().chain(others.into_iter().flatten()) {
            let digits = wwn.strip_prefix("0x").unwrap_or(wwn);
            if digits.len() != 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(e.error(Code::InternalError, Domain::None, format!("Malformed wwn: {wwn}")));
            }
        }
        Ok(())
    }
}

impl PoolSource {
    /// Reads a `<source>` document of its own, as the search for sources takes it.
    ///
    /// # Errors
    /// Those of the parts.
    pub fn parse(text: &str, kind: PoolType) -> Result<Self> {
        let doc = virt_xml::Document::parse(text, Mode::CONFIG, Domain::Storage)?;
        let root = doc.root();
        if root.name() != "source" {
            return Err(xml_error(root, "unexpected root element"));
        }
        let mut source = Self::read(root)?;
        source.settle(kind, root)?;
        Ok(source)
    }

    /// Drops what this kind of pool has not, fills in its default format.
    pub(super) fn settle(&mut self, kind: PoolType, e: El<'_>) -> Result<()> {
        let parts = kind.source();
        let said = self.format.take().filter(|f| !f.is_empty());
        self.format = match (kind.source_formats(), said) {
            (None, _) => None,
            (Some(formats), None) => Some(formats.default.to_string()),
            (Some(formats), Some(name)) if formats.names.contains(&name.as_str()) => Some(name),
            (Some(_), Some(name)) => {
                return Err(unsupported(e, format!("unknown pool format type {name}")));
            }
        };
        if !parts.host {
            self.hosts.clear();
        }
        if !parts.device {
            self.devices.clear();
        }
        if !parts.adapter {
            self.adapter = None;
        }
        if !parts.name {
            self.name = None;
        }
        if !parts.initiator {
            self.initiator = None;
        }
        self.initiator.take_if(|i| i.iqn.as_deref().is_none_or(str::is_empty));
        self.dir = self.dir.take().filter(|_| parts.dir).map(|dir| {
            // A share's own name may begin with what looks like nothing.
            let share = self.format.as_deref() == Some("cifs") || kind == PoolType::Gluster;
            if share && dir.is_empty() { dir } else { sanitize(&dir) }
        });
        if kind == PoolType::Gluster {
            self.dir.get_or_insert_with(|| "/".to_string());
        }
        if let Some(version) = self.protocol.as_deref().filter(|v| v.contains(',')) {
            let text = format!("storage pool protocol ver '{version}' must not contain ','");
            return Err(e.error(Code::XmlDetail, Domain::Storage, text));
        }
        Ok(())
    }

    /// The first device.
    pub fn device(&self) -> Option<&str> {
        self.devices.first().map(|d| d.path.as_str())
    }

    /// The source as a document of its own.
    pub fn format_document(&self) -> String {
        virt_xml::format(self, "source", Mode::CONFIG)
    }
}

/// `<sources>`: what a search found.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(open)]
pub struct Sources {
    #[xml(child = "source")]
    pub sources: Vec<PoolSource>,
}

impl Sources {
    /// The document.
    pub fn format(&self) -> String {
        virt_xml::format(self, "sources", Mode::CONFIG)
    }
}
