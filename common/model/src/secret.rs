//! The secret document: what a secret is for and who may see it. The value is never part of it.
#![allow(missing_docs)] // The fields are the document's own names; comments stand where there is more to say.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, Xml, YesNo, names};

use crate::{Uuid, UuidText};

names! {
    /// What kind of thing needs the secret; the order is that of virSecretUsageType.
    pub enum UsageType { None = "none", Volume = "volume", Ceph = "ceph", Iscsi = "iscsi", Tls = "tls", Vtpm = "vtpm" }
}

/// `<secret>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Secret::check)]
pub struct Secret {
    /// The value is never on disk.
    #[xml(attr, with = YesNo, loose, say(XmlError, "invalid value of 'ephemeral'", Secret))]
    pub ephemeral: bool,
    /// No client is ever told the value.
    #[xml(attr, with = YesNo, loose, say(XmlError, "invalid value of 'private'", Secret))]
    pub private: bool,
    #[xml(leaf, with = UuidText, say(InternalError, "malformed uuid element", Secret))]
    pub uuid: Option<Uuid>,
    #[xml(leaf)]
    pub description: Option<String>,
    /// One use has one secret.
    #[xml(child)]
    pub usage: Option<Usage>,
}

/// `<usage>`: a kind, and which of that kind in the child that belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Usage::check)]
pub struct Usage {
    #[xml(attr = "type", required)]
    pub kind: UsageType,
    /// A path.
    #[xml(leaf)]
    pub volume: Option<String>,
    /// A target's name.
    #[xml(leaf)]
    pub target: Option<String>,
    #[xml(leaf)]
    pub name: Option<String>,
}

impl Secret {
    /// Reads a document.
    ///
    /// # Errors
    /// Libvirt's code and text, with element path, line and value as context.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "secret", Mode::CONFIG, Domain::Secret)
    }

    /// Writes the document, ending in a newline.
    pub fn format(&self) -> String {
        virt_xml::format(self, "secret", Mode::CONFIG)
    }

    /// What it is for; `None` for nothing in particular.
    pub fn usage(&self) -> Option<(UsageType, &str)> {
        let usage = self.usage.as_ref()?;
        Some((usage.kind, usage.id()?))
    }

    fn check(&mut self, _: El<'_>) -> Result<()> {
        self.usage.take_if(|u| u.kind == UsageType::None);
        Ok(())
    }
}

impl Usage {
    /// Which of its kind.
    pub fn id(&self) -> Option<&str> {
        match self.kind {
            UsageType::None => None,
            UsageType::Volume => self.volume.as_deref(),
            UsageType::Iscsi => self.target.as_deref(),
            UsageType::Ceph | UsageType::Tls | UsageType::Vtpm => self.name.as_deref(),
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let missing = match self.kind {
            UsageType::None => return Ok(()),
            UsageType::Volume => "volume usage specified, but volume path is missing",
            UsageType::Ceph => "Ceph usage specified, but name is missing",
            UsageType::Iscsi => "iSCSI usage specified, but target is missing",
            UsageType::Tls => "TLS usage specified, but name is missing",
            UsageType::Vtpm => "vTPM usage specified, but name is missing",
        };
        if self.id().is_none() {
            return Err(e.error(Code::InternalError, Domain::Secret, missing));
        }
        // The children of other kinds are not part of it.
        let (kind, mut keep) = (self.kind, std::mem::take(self));
        self.kind = kind;
        match kind {
            UsageType::Volume => self.volume = keep.volume.take(),
            UsageType::Iscsi => self.target = keep.target.take(),
            _ => self.name = keep.name.take(),
        }
        Ok(())
    }
}
