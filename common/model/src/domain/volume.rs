//! A pool's volume that a guest uses: documents name the volume, the status file its place besides.
//!
//! ```text
//!   configuration   <source pool='p' volume='v'/>                                        DiskSource::Volume
//!   in use          <source pool='p' volume='v' index='1'/>                              DiskSource::File, named
//!   status file     <source pool='p' volume='v' actualType='file' file='/p/v' .../>      DiskSource::File, named
//! ```

use virt_xml::{Mode, Xml};

use super::source::{BlockImage, DiskSource, FileImage, NetworkImage, VolumeImage, VolumeMode};

/// How a document names the volume that an image in use is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamedVolume {
    /// The pool's name.
    pub pool: Option<String>,
    /// The volume's name.
    pub volume: Option<String>,
    /// How a volume of an iSCSI pool is used.
    pub mode: Option<VolumeMode>,
    /// The credentials are the pool's and not for clients to see.
    pub inherited_auth: bool,
}

/// Where a volume in use lies.
#[derive(Debug, Clone, PartialEq, Xml)]
#[xml(tag = "actualType")]
pub enum VolumePlace {
    #[xml("file")]
    File(FilePlace),
    #[xml("block")]
    Block(BlockPlace),
    #[xml("network")]
    Network(Box<NetworkImage>),
}

/// A regular file.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct FilePlace {
    #[xml(attr)]
    pub file: Option<String>,
}

/// A block device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct BlockPlace {
    #[xml(attr)]
    pub dev: Option<String>,
}

impl DiskSource {
    /// An image in use that is a named volume, as documents tell it.
    pub(super) fn as_volume(&self, mode: Mode) -> Option<Self> {
        let named = self.common().volume.as_deref()?;
        let actual = match self {
            Self::File(s) => VolumePlace::File(FilePlace { file: s.file.clone() }),
            Self::Block(s) => VolumePlace::Block(BlockPlace { dev: s.dev.clone() }),
            Self::Network(s) => {
                // What all images have is written with the volume.
                let common = Default::default();
                VolumePlace::Network(Box::new(NetworkImage { common, ..(**s).clone() }))
            }
            _ => return None,
        };
        let mut common = self.common().clone();
        common.volume = None;
        if named.inherited_auth && !mode.status {
            common.auth = None;
        }
        let (pool, volume) = (named.pool.clone(), named.volume.clone());
        Some(Self::Volume(VolumeImage { pool, volume, mode: named.mode, actual: Some(actual), common }))
    }

    /// Takes the place of a volume in use from what a status file tells.
    pub(super) fn settle(&mut self) {
        let Self::Volume(image) = self else { return };
        let Some(actual) = image.actual.take() else { return };
        let mut common = std::mem::take(&mut image.common);
        let inherited_auth = common.auth.is_some();
        let (pool, volume, mode) = (image.pool.take(), image.volume.take(), image.mode);
        common.volume = Some(Box::new(NamedVolume { pool, volume, mode, inherited_auth }));
        *self = match actual {
            VolumePlace::File(s) => Self::File(FileImage { file: s.file, common, ..FileImage::default() }),
            VolumePlace::Block(s) => Self::Block(BlockImage { dev: s.dev, common }),
            VolumePlace::Network(s) => Self::Network(Box::new(NetworkImage { common, ..*s })),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::disk::Disk;

    fn read(source: &str, mode: Mode) -> Disk {
        let xml = format!("<disk type='volume'>{source}<target dev='vda'/></disk>");
        let domain = virt_error::Domain::Domain;
        Disk::read(virt_xml::Document::parse(&xml, mode, domain).unwrap().root()).unwrap()
    }

    fn write(disk: &Disk, mode: Mode) -> String {
        let mut w = virt_xml::Writer::new(mode);
        w.element("disk", disk);
        w.finish()
    }

    #[test]
    fn a_volume_in_use_is_told_by_its_name() {
        let status =
            "<source pool='p' volume='v' actualType='file' file='/p/v' startupPolicy='optional' index='3'/>";
        let disk = read(status, Mode::STATUS);
        assert_eq!(disk.source.path(), Some("/p/v"));
        let told = write(&disk, Mode::LIVE);
        assert!(told.contains("<disk type='volume' device='disk'>"), "{told}");
        assert!(told.contains("<source pool='p' volume='v' startupPolicy='optional' index='3'/>"), "{told}");
        assert!(write(&disk, Mode::STATUS).contains(status));
        // What a client writes so is no place.
        assert_eq!(read(status, Mode::LIVE).source.path(), None);
    }

    #[test]
    fn credentials_of_a_pool_stay_with_us() {
        let status = "<source pool='p' volume='unit:0:0:1' mode='direct' actualType='network' protocol='iscsi' \
                      name='iqn.a:b/1' index='1'><auth username='u'><secret type='iscsi' usage='k'/></auth>\
                      <host name='h' port='3260'/></source>";
        let disk = read(status, Mode::STATUS);
        let told = write(&disk, Mode::LIVE);
        assert!(told.contains("<source pool='p' volume='unit:0:0:1' mode='direct' index='1'/>"), "{told}");
        let kept = write(&disk, Mode::STATUS);
        assert_eq!(
            read(&kept[kept.find("<source").unwrap()..kept.find("<target").unwrap()], Mode::STATUS),
            disk
        );
    }
}
