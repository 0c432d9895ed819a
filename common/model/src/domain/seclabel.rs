//! Security labels, of the whole guest and of single images and sockets.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, Mode, Xml, YesElse, YesNo, names};

names! {
    /// Who chooses the label.
    pub enum SeclabelKind { Dynamic = "dynamic", Static = "static", None = "none" }
}

/// `<seclabel>` of the guest.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Seclabel::check)]
pub struct Seclabel {
    #[xml(attr = "type")]
    pub kind: Option<SeclabelKind>,
    /// `selinux`, `apparmor`, `dac`.
    #[xml(attr)]
    pub model: Option<String>,
    #[xml(attr, with = YesNo)]
    pub relabel: Option<bool>,
    #[xml(leaf)]
    pub label: Option<String>,
    #[xml(leaf, live_read)]
    pub imagelabel: Option<String>,
    #[xml(leaf)]
    pub baselabel: Option<String>,
}

impl Seclabel {
    /// A label that is chosen at each start is no configuration.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        if e.mode().inactive && self.kind.unwrap_or_default() == SeclabelKind::Dynamic {
            self.label = None;
        }
        Ok(())
    }
}

/// `<seclabel>` of one image or socket.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = DeviceSeclabel::check)]
pub struct DeviceSeclabel {
    #[xml(attr)]
    pub model: Option<String>,
    /// An image that was not relabelled, for want of permission (status file only).
    #[xml(attr, with = YesElse, live_read)]
    pub labelskip: Option<bool>,
    #[xml(attr, with = YesNo)]
    pub relabel: Option<bool>,
    #[xml(leaf)]
    pub label: Option<String>,
}

impl DeviceSeclabel {
    /// That an image could not be labelled is no configuration; one that says nothing is none either.
    pub(super) fn shown(&self, mode: Mode) -> bool {
        match self.labelskip {
            Some(true) => !mode.inactive,
            _ => self.label.is_some() || self.relabel.is_some(),
        }
    }

    fn check(&mut self, e: El<'_>) -> Result<()> {
        let model = self.model.as_deref().unwrap_or("(null)");
        if self.label.is_none() && self.relabel == Some(true) {
            let text = format!("Cannot specify relabel if label is missing. model={model}");
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        if self.label.is_some() {
            self.relabel.get_or_insert(true);
        }
        Ok(())
    }
}
