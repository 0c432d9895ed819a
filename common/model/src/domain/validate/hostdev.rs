//! Host devices handed to the guest.

use virt_error::{Code, Domain as From, Error, Result};

use super::super::Domain;
use super::super::address::Address;
use super::super::hostdev::{Hostdev, HostdevModel, HostdevSource, ScsiProtocol};
use super::super::info::each;
use super::{twice, unsupported, xml};

/// Settings that only some kinds have.
pub(super) fn while_reading(d: &Domain) -> Result<()> {
    each(&d.devices.hostdevs, |h| {
        let scsi = matches!(h.source, HostdevSource::Scsi(_));
        if h.sgio.is_some() && !scsi {
            return xml("sgio is only supported for scsi host device");
        }
        if h.rawio.is_some() && !scsi {
            return xml("rawio is only supported for scsi host device");
        }
        Ok(())
    })?;
    twins(d)
}

/// Devices that are handed over twice.
fn twins(d: &Domain) -> Result<()> {
    let list = &d.devices.hostdevs;
    let named = |h: &Hostdev| match &h.source {
        HostdevSource::Usb(u) => u.vendor.is_some() || u.address.is_some(),
        _ => true,
    };
    // The same source has the same words; lists of thousands are not compared pair by pair.
    let words = list.iter().filter(|h| named(h)).map(|h| format!("{:?}", h.source));
    if twice(words).is_some() {
        return xml("Hostdev already exists in the domain configuration");
    }
    Ok(())
}

/// Each device by itself.
pub(super) fn singly(d: &Domain) -> Result<()> {
    each(&d.devices.hostdevs, one)
}

/// What only one of them can have.
pub(super) fn together(d: &Domain) -> Result<()> {
    let list = &d.devices.hostdevs;
    if list.iter().filter(|h| h.ramfb == Some(true)).count() > 1 {
        return unsupported("Only one vgpu device can have 'ramfb' enabled");
    }
    Ok(())
}

fn one(h: &Hostdev) -> Result<()> {
    match &h.source {
        HostdevSource::Pci(_)
            if !matches!(h.info.address, None | Some(Address::Pci(_) | Address::Unassigned)) =>
        {
            super::internal("PCI host devices must use 'pci' or 'unassigned' address type")
        }
        HostdevSource::Mdev(m) => {
            if m.uuid.is_none() {
                return unsupported("Missing 'uuid' attribute for element <address>");
            }
            let fits = |a: &Address| match h.model {
                Some(HostdevModel::VfioPci) => matches!(a, Address::Pci(_)),
                Some(HostdevModel::VfioCcw) => matches!(a, Address::Ccw(_)),
                _ => true,
            };
            match (&h.info.address, h.model) {
                (Some(a), Some(model)) if !fits(a) => xml(format!(
                    "Unsupported address type '{}' with mediated device model '{model}'",
                    a.tag()
                )),
                _ => Ok(()),
            }
        }
        HostdevSource::Scsi(s) if s.protocol == Some(ScsiProtocol::Iscsi) => {
            if s.hosts.is_empty() {
                return xml("missing the host address for the iSCSI hostdev");
            }
            if s.hosts.len() > 1 {
                return xml("only one source host address may be specified for the iSCSI hostdev");
            }
            if s.name.is_none() {
                return xml("Missing required attribute 'name' in element 'source'");
            }
            Ok(())
        }
        HostdevSource::Scsi(s) => {
            if s.address.is_none() {
                return xml("'address' must be specified for scsi hostdev source");
            }
            if s.adapter.is_none() {
                return xml("'adapter' name must be specified for scsi hostdev source");
            }
            Ok(())
        }
        HostdevSource::ScsiHost(s) => {
            let wwpn = s.wwpn.as_deref().unwrap_or_default();
            match wwpn.strip_prefix("naa.") {
                Some(rest) => wwn_text(rest).map_or_else(|()| xml("malformed 'wwpn' value"), |()| Ok(())),
                None => xml("malformed 'wwpn' value"),
            }
        }
        HostdevSource::Usb(u) => match (u.vendor, u.product, &u.address) {
            (Some(_), None, _) | (None, Some(_), _) => {
                unsupported("missing product or vendor in USB hostdev source")
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn wwn_text(text: &str) -> std::result::Result<(), ()> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()) { Ok(()) } else { Err(()) }
}

/// A world wide name: 16 hexadecimal digits.
pub(super) fn wwn(text: &str) -> Result<()> {
    wwn_text(text).map_err(|()| Error::new(Code::InternalError, From::None, format!("Malformed wwn: {text}")))
}
