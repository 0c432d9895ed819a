//! What every driver fills in, once a document was read.
//!
//! A driver calls, in this order: [`guest`] (memory, vcpus, clock ...), its own defaults for the guest and for each
//! device, [`devices`] (console twins, listen addresses, disk places ...), its own implicit devices, [`controllers`],
//! and then assigns addresses. All are idempotent: a document that was completed once is not changed again.

mod chardev;
mod controllers;
mod disk;
mod graphics;
mod guest;
mod placement;

use virt_error::{Code, Domain as From, Error};
use virt_xml::At;

use crate::{Mac, Uuid};

pub use controllers::{add_controller, controllers, number_controllers};
pub use disk::{add_disk, disk_index, drive_place};
pub use guest::guest;

use super::Domain;
use super::video::{VideoDriver, VideoModel};

/// What the host adds: new identities, and the security driver's name.
pub trait Fresh {
    /// A random UUID.
    fn uuid(&mut self) -> Uuid;
    /// An unused MAC address with the driver's prefix.
    fn mac(&mut self) -> Mac;
    /// The security model of labels that name none; `none` on a host without a security driver.
    fn security_model(&self) -> &str {
        "none"
    }
}

/// Completes the devices.
///
/// Errors carry the reference's codes: 27 and 67 for devices that contradict each other.
pub fn devices(d: &mut Domain, fresh: &mut dyn Fresh) -> Result<(), Error> {
    chardev::complete(d)?;
    disk::complete(d)?;
    graphics::complete(d).within("/domain/devices/graphics")?;
    for dev in &mut d.devices.redirdevs {
        if let super::chardev::CharBackend::Dbus(source) = &mut dev.backend {
            source.channel.get_or_insert_with(|| "org.qemu.usbredir".to_string());
        }
    }
    for interface in &mut d.devices.interfaces {
        if let Some(port) = &mut interface.virtualport {
            port.name(&mut || fresh.uuid());
        }
        let mac = interface.mac.get_or_insert_default();
        if mac.address.is_none() {
            mac.address = Some(fresh.mac());
        }
    }
    videos(d).within("/domain/devices/video")?;
    for hostdev in &mut d.devices.hostdevs {
        hostdev.managed.get_or_insert(false);
    }
    Ok(())
}

/// The primary card comes first, and there is one.
fn videos(d: &mut Domain) -> Result<(), Error> {
    let videos = &mut d.devices.videos;
    if videos.iter().filter(|v| v.model.primary == Some(true)).count() > 1 {
        return Err(unsupported("Only one primary video device is supported"));
    }
    if let Some(at) = videos.iter().position(|v| v.model.primary == Some(true)) {
        videos[..=at].rotate_right(1);
    }
    for (i, video) in videos.iter_mut().enumerate() {
        video.model.primary = (i == 0).then_some(true);
        if video.model.kind != super::video::VideoKind::None {
            video.model.heads.get_or_insert(1);
        } else {
            // No card has no settings.
            video.model = VideoModel { kind: video.model.kind, ..VideoModel::default() };
            video.driver = VideoDriver::default();
            video.info.address = None;
        }
    }
    Ok(())
}

pub(super) fn unsupported(text: impl Into<String>) -> Error {
    Error::new(Code::ConfigUnsupported, From::Domain, text)
}

pub(super) fn xml_error(text: impl Into<String>) -> Error {
    Error::new(Code::XmlError, From::Domain, text)
}
