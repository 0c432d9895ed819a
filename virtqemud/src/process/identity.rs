//! Whom a guest's process runs as, and whether its files become that user's: qemu.conf's user, or the document's own.
//!
//! ```text
//!   no "dac" label, or a dynamic one      qemu.conf's user, files change owner
//!   static, relabel='yes'                 the label's user, files change owner
//!   static, relabel='no'                  the label's user, files stay as they are
//!   none                                  qemu.conf's user, files stay as they are
//! ```

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::seclabel::{Seclabel, SeclabelKind};

use super::dac::Owner;
use crate::driver::Driver;
use crate::settings::{self, Identity};

/// Who a guest's process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `None`: the daemon's own user.
    pub user: Option<Identity>,
    /// Files become that user's while the guest runs.
    pub relabel: bool,
}

impl Who {
    /// Owner of what is made for the guest.
    pub fn owner(&self) -> Option<Owner> {
        self.user.as_ref().map(|u| u.owner)
    }

    /// Whom files are given to.
    pub fn lends_to(&self) -> Option<Owner> {
        self.owner().filter(|_| self.relabel)
    }
}

/// Who runs a guest with this document.
///
/// # Errors
/// Code 8 for a user that is not there; code 67 where nothing can become another user, or for labels of security drivers
/// that are not there.
pub fn of(driver: &Driver, guest: &Domain) -> Result<Who> {
    who(driver.settings.user.as_ref(), &guest.seclabels)
}

fn who(configured: Option<&Identity>, labels: &[Seclabel]) -> Result<Who> {
    let mut found = Who { user: configured.cloned(), relabel: true };
    for label in labels {
        let missing = |model: &str| {
            let text = format!("Security driver model '{model}' is not available");
            Err(Error::new(Code::ConfigUnsupported, From::Security, text))
        };
        match (label.model.as_deref(), label.kind) {
            (Some("dac"), Some(SeclabelKind::Static)) => {
                if configured.is_none() {
                    return missing("dac");
                }
                found.user = Some(settings::labelled(label.label.as_deref().unwrap_or_default())?);
                found.relabel = label.relabel != Some(false);
            }
            (Some("dac"), Some(SeclabelKind::None)) => found.relabel = false,
            (Some("dac"), _) | (None, _) | (Some(_), Some(SeclabelKind::None)) => {}
            (Some(model), _) => return missing(model),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_name_its_own_user() {
        let qemu = Identity { owner: Owner { uid: 64055, gid: 993 }, groups: vec![993] };
        let label = |kind, relabel, text: &str| Seclabel {
            kind: Some(kind),
            model: Some("dac".into()),
            relabel,
            label: Some(text.into()),
            ..Seclabel::default()
        };
        let told = |labels: &[Seclabel]| {
            let who = who(Some(&qemu), labels).map_err(|e| e.message())?;
            Ok::<_, String>((who.owner().map(|o| (o.uid, o.gid)), who.lends_to().is_some()))
        };
        assert_eq!(told(&[]), Ok((Some((64055, 993)), true)));
        let fixed = |relabel, text| label(SeclabelKind::Static, relabel, text);
        assert_eq!(told(&[fixed(Some(true), "+12:+34")]), Ok((Some((12, 34)), true)));
        assert_eq!(told(&[fixed(Some(false), "root:root")]), Ok((Some((0, 0)), false)));
        assert_eq!(told(&[label(SeclabelKind::None, None, "")]), Ok((Some((64055, 993)), false)));
        let text = "invalid argument: Failed to parse user 'nosuchuser'";
        assert_eq!(told(&[fixed(None, "nosuchuser:root")]), Err(text.into()));
        let other = Seclabel { model: Some("selinux".into()), ..fixed(None, "a:b") };
        let text = "unsupported configuration: Security driver model 'selinux' is not available";
        assert_eq!(told(&[other]), Err(text.into()));
        assert!(who(None, &[fixed(None, "+1:+1")]).is_err());
    }
}
